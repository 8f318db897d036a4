"""What a few dozen new points say of a model's error at a new layer, kernel or GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from moeprof.cost.contexts import NUM_SHAPE_SIZES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.contexts import Contexts
    from moeprof.cost.network import Encoder
    from moeprof.cost.points import Points

Key = tuple[str | int, ...]

# Shares of the variance of log ratios that two points have in common, by what they share; chosen by
# hand. Of 15 choices of such shares and reaches, tried on the 25 layers of H200/vLLM 0.24.0 from 40
# points each, the median error lay between 4.3 and 4.8 %.
_GPU_SHARE: Final = 0.1
_KERNEL_SHARE: Final = 0.15
_KERNEL_TOKENS_SHARE: Final = 0.2
_LAYER_SHARE: Final = 0.05
_LAYER_NEAR_SHARE: Final = 0.1
_BOTH_SHARE: Final = 0.1
_BOTH_NEAR_SHARE: Final = 0.3
_REACHES: Final = (2.0, 1.5, 1.5)  # doublings of tokens, tp_size and ep_size
_NOISE: Final = 0.02
_LEAST_SPREAD: Final = 0.02
_TAIL: Final = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Anchors:
    """New points that a model was adapted to, and the log ratio that each adds around it.

    `keys`, [num_anchors], are kernel, GPU and the layer's sizes; `places`, [num_anchors, 3], log2
    of tokens, `tp_size` and `ep_size`; `weights`, [num_anchors], solve the kriging equations.
    `spread_fraction` is the 90th percentile of the anchors' own errors, each predicted from the
    others. `new_gpus` and `new_kernels` had not been measured before: there, anchors act on all
    layers; elsewhere on their own.
    """

    keys: tuple[Key, ...]
    places: NDArray[np.float64]
    weights: NDArray[np.float64]
    spread_fraction: float
    new_gpus: tuple[str, ...]
    new_kernels: tuple[str, ...]

    def corrections(self, points: Points, contexts: Contexts) -> NDArray[np.float64]:
        """Return the log ratio to add at each point, [num_points]; 0 at layers without anchors."""
        found = np.zeros(len(points))
        touched = self.touches(contexts)[contexts.index]
        index = np.flatnonzero(touched)
        keys = [_key(key) for key in contexts.keys()]  # noqa: SIM118 - a method, no mapping
        some = points.take(index)
        own = [keys[row] for row in contexts.index[index].tolist()]
        found[index] = _covariance(own, _places(some), self.keys, self.places) @ self.weights
        return found

    def touches(self, contexts: Contexts) -> NDArray[np.bool_]:
        """Return which contexts the anchors act on, [num_contexts]."""
        layers = {key[1:] for key in self.keys}
        gpus = {key[1] for key in self.keys}
        keys = [_key(key) for key in contexts.keys()]  # noqa: SIM118
        acts = [
            key[1:] in layers
            or key[1] in self.new_gpus
            or (key[0] in self.new_kernels and key[1] in gpus)
            for key in keys
        ]
        return np.array(acts, dtype=bool)


def fit_anchors(
    points: Points,
    contexts: Contexts,
    residual: NDArray[np.float64],
    weight: NDArray[np.float64],
    encoder: Encoder,
) -> Anchors:
    """Return anchors at points, from log(observed / predicted) there, [num_points].

    `weight`, [num_points], is 1, or less where a row is doubted: it divides the noise's variance.
    Kriging over doublings of the batch size and of parallelism; points of one kernel tell each
    other more. Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, MIT Press
    2006, chapters 2 and 5 (5.12, the errors of each point left out).
    """
    every = contexts.keys()
    keys = tuple(_key(every[row]) for row in contexts.index.tolist())
    places = _places(points)
    variance = max(float(np.mean(np.square(residual))), _LEAST_SPREAD**2)
    covariance = variance * _covariance(keys, places, keys, places)
    factor = cho_factor(covariance + np.diag(_NOISE**2 / weight), lower=True)
    weights = cho_solve(factor, residual)
    left_out = weights / np.diag(cho_solve(factor, np.eye(len(points))))
    spread = float(np.quantile(np.abs(left_out), _TAIL))
    gpus = sorted({str(key[1]) for key in keys} - set(encoder.gpus))
    kernels = sorted({str(key[0]) for key in keys} - set(encoder.kernels))
    return Anchors(keys, places, weights * variance, spread, tuple(gpus), tuple(kernels))


def _key(key: Key) -> Key:
    return key[: 2 + NUM_SHAPE_SIZES]


def _places(points: Points) -> NDArray[np.float64]:
    columns = (points.batch_size, points.tp_size, points.ep_size)
    return np.log2(np.stack(columns, axis=-1).astype(np.float64))


def _covariance(
    keys_a: tuple[Key, ...] | list[Key],
    places_a: NDArray[np.float64],
    keys_b: tuple[Key, ...],
    places_b: NDArray[np.float64],
) -> NDArray[np.float64]:
    kernels = _alike([key[:2] for key in keys_a], [key[:2] for key in keys_b])
    layers = _alike([key[1:] for key in keys_a], [key[1:] for key in keys_b])
    squares = [
        np.square((places_a[:, column, None] - places_b[:, column]) / reach)
        for column, reach in enumerate(_REACHES)
    ]
    in_tokens = np.exp(-squares[0] / 2)
    near = np.exp(-sum(squares) / 2)
    found: NDArray[np.float64] = (
        _GPU_SHARE
        + kernels * (_KERNEL_SHARE + _KERNEL_TOKENS_SHARE * in_tokens)
        + layers * (_LAYER_SHARE + _LAYER_NEAR_SHARE * near)
        + kernels * layers * (_BOTH_SHARE + _BOTH_NEAR_SHARE * near)
    )
    return found


def _alike(keys_a: list[Key], keys_b: list[Key]) -> NDArray[np.float64]:
    number: dict[Key, int] = {}
    codes_a = np.array([number.setdefault(key, len(number)) for key in keys_a])
    codes_b = np.array([number.setdefault(key, len(number)) for key in keys_b])
    found: NDArray[np.float64] = (codes_a[:, None] == codes_b).astype(np.float64)
    return found
