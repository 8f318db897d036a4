"""Fitting the network of coefficients to observed costs, by Adam on a Huber loss of log ratios."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from moeprof.cost.network import HIGHEST, LOWEST, Network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

_HIDDEN: Final = 64
_NUM_ROWS: Final = 4096  # of one step
_LEARNING_RATE: Final = 5e-3
_WEIGHT_DECAY: Final = 0.03
_HUBER: Final = 0.03  # log ratio beyond which an error counts linearly: 3 %
_TOWARDS_PRIOR: Final = 0.01
_WARM_UP_FRACTION: Final = 0.1
_FIRST_RATE, _LAST_RATE = 1 / 25, 1 / 250_000  # of the learning rate
_DECAY_FIRST, _DECAY_SECOND, _ADAM_FLOOR = 0.9, 0.999, 1e-8
_LAST_LAYER: Final = 0.3  # of the usual start, so that fitting begins near the prior
_FLOOR: Final = np.float32(1e-9)


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What to fit: terms whose weighted sum, part by part, is to be the cost of each row.

    `inputs`, [num_contexts, num_inputs], of which the last `num_names` stand for names; `index`,
    [num_rows], is each row's context; `terms`, [num_rows, num_terms], and `log_cost`, [num_rows],
    are in one unit and its logarithm; `weight`, [num_rows], is 1 or less where a row is doubted;
    `parts` and `log_prior` are [num_terms]. Part 0 adds up, the others join as a root of squares.
    """

    inputs: NDArray[np.float64]
    num_names: int
    index: NDArray[np.int64]
    terms: NDArray[np.float64]
    log_cost: NDArray[np.float64]
    weight: NDArray[np.float64]
    parts: NDArray[np.int64]
    log_prior: NDArray[np.float64]


def train(task: Task, *, num_steps: int, seed: int) -> Network:
    """Return the fitted network, the same for a seed on one machine.

    The learning rate rises, then falls along a cosine. Sources: Kingma and Ba, arXiv:1412.6980
    (Adam); Loshchilov and Hutter, arXiv:1711.05101 (decoupled weight decay); Smith and Topin,
    arXiv:1708.07120 (one cycle); Huber, doi:10.1214/aoms/1177703732.
    """
    draw = np.random.default_rng(seed)
    values = _start(task, draw)
    moments = [(np.zeros_like(value), np.zeros_like(value)) for value in values]
    order = np.argsort(task.index, kind="stable")
    rows = _Rows(task, order)
    for step in range(num_steps):
        gradients = _gradients(task, values, rows.some(draw))
        rate = _rate(step / num_steps)
        _adam(values, gradients, moments, step + 1, rate)
    weights, biases = values[0::2], values[1::2]
    return Network(
        tuple(each.astype(np.float64) for each in weights),
        tuple(each.astype(np.float64) for each in biases),
    )


class _Rows:
    """The rows in the order of their contexts, of which each step takes some."""

    def __init__(self, task: Task, order: NDArray[np.int64]) -> None:
        self._index = task.index[order]
        self._terms = task.terms[order].astype(np.float32)
        self._log_cost = task.log_cost[order].astype(np.float32)
        self._weight = task.weight[order].astype(np.float32)

    def some(self, draw: np.random.Generator) -> tuple[NDArray[np.int64], Array, Array, Array]:
        num = len(self._index)
        if num <= _NUM_ROWS:
            return self._index, self._terms, self._log_cost, self._weight
        # Sorted, so that the rows of a context stand together, as `np.add.reduceat` needs.
        taken = np.sort(draw.integers(0, num, _NUM_ROWS))
        return self._index[taken], self._terms[taken], self._log_cost[taken], self._weight[taken]


def _start(task: Task, draw: np.random.Generator) -> list[Array]:
    """Weights and biases in turn, uniform in +-1 / sqrt(inputs); names begin without effect."""
    num_inputs, num_terms = task.inputs.shape[1], len(task.log_prior)
    values: list[Any] = []
    for fan_in, fan_out in ((num_inputs, _HIDDEN), (_HIDDEN, _HIDDEN), (_HIDDEN, num_terms)):
        bound = 1 / np.sqrt(fan_in)
        values += [
            draw.uniform(-bound, bound, (fan_in, fan_out)),
            draw.uniform(-bound, bound, fan_out),
        ]
    values[0][num_inputs - task.num_names :] = 0.0
    values[-2] *= _LAST_LAYER
    values[-1] = task.log_prior
    return [each.astype(np.float32) for each in values]


def _gradients(
    task: Task, values: list[Array], rows: tuple[NDArray[np.int64], Array, Array, Array]
) -> list[Array]:
    index, terms, log_cost, weight = rows
    borders = np.flatnonzero(np.diff(index, prepend=-1))
    seen = index[borders]
    inputs = task.inputs[seen].astype(np.float32)
    first, first_slope = _silu(inputs @ values[0] + values[1])
    second, second_slope = _silu(first @ values[2] + values[3])
    raw = second @ values[4] + values[5]
    log_coefficients = np.clip(raw, LOWEST, HIGHEST)

    counts = np.diff(np.append(borders, len(index)))
    costs = terms * np.repeat(np.exp(log_coefficients), counts, axis=0)
    shares, log_predicted = _shares(costs, task.parts)
    error = log_predicted - log_cost
    pull = np.clip(error / np.float32(_HUBER), -1, 1) * weight / np.float32(len(index))
    slope = np.add.reduceat(shares * pull[:, None], borders, axis=0)
    prior = task.log_prior.astype(np.float32)
    slope += np.float32(2 * _TOWARDS_PRIOR / raw.size) * (log_coefficients - prior)
    slope *= (raw > LOWEST) & (raw < HIGHEST)

    to_second = (slope @ values[4].T) * second_slope
    to_first = (to_second @ values[2].T) * first_slope
    return [
        inputs.T @ to_first,
        to_first.sum(axis=0),
        first.T @ to_second,
        to_second.sum(axis=0),
        second.T @ slope,
        slope.sum(axis=0),
    ]


def _silu(values: Array) -> tuple[Array, Array]:
    gate: Array = np.asarray(1 / (1 + np.exp(-np.clip(values, -60, 60))), dtype=np.float32)
    slope: Array = gate * (1 + values * (1 - gate))
    return values * gate, slope


def _shares(costs: Array, parts: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return d log(cost) / d log(coefficient), [num_rows, num_terms], and log(cost)."""
    member: Array = (parts[:, None] == np.arange(int(parts.max()) + 1)).astype(np.float32)
    sums = costs @ member
    root = np.sqrt(np.square(sums[:, 1:]).sum(axis=1) + _FLOOR * _FLOOR)
    total = sums[:, 0] + root
    sums[:, 1:] /= root[:, None]
    sums[:, 0] = 1.0
    shares: Array = costs * ((sums / total[:, None]) @ member.T)
    return shares, np.log(total)


def _rate(progress: float) -> float:
    if progress < _WARM_UP_FRACTION:
        low, high, way = _FIRST_RATE, 1.0, progress / _WARM_UP_FRACTION
    else:
        low, high = 1.0, _LAST_RATE
        way = (progress - _WARM_UP_FRACTION) / (1 - _WARM_UP_FRACTION)
    return float(_LEARNING_RATE * (low + (high - low) * (1 - np.cos(np.pi * way)) / 2))


def _adam(
    values: list[Array],
    gradients: list[Array],
    moments: list[tuple[Array, Array]],
    step: int,
    rate: float,
) -> None:
    for place, gradient in enumerate(gradients):
        mean, square = moments[place]
        mean = mean + np.float32(1 - _DECAY_FIRST) * (gradient - mean)
        square = square + np.float32(1 - _DECAY_SECOND) * (gradient * gradient - square)
        moments[place] = (mean, square)
        scale = np.sqrt(square / np.float32(1 - _DECAY_SECOND**step)) + np.float32(_ADAM_FLOOR)
        change = np.float32(rate / (1 - _DECAY_FIRST**step)) * mean / scale
        values[place] = values[place] * np.float32(1 - rate * _WEIGHT_DECAY) - change
