"""A small network that gives each context the coefficients of its terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.contexts import Contexts
    from moeprof.cost.labels import Labels

LOWEST, HIGHEST = -12.0, 6.0  # of a coefficient's logarithm: from 6e-6 to 400 times its prior unit
_FARTHEST: Final = 2.0  # standard deviations: beyond, a size counts as that of the border
# A kernel's own input is held small, so that what kernels of one family share is learnt first.
_NAME_SCALE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Encoder:
    """How contexts become inputs: numbers centred and scaled, flags, and a 0 or 1 per known name.

    `centre` and `scale` are those of the contexts' numbers. A name that was not seen has no input,
    so that it gets what all kernels, or GPUs, have in common.
    """

    centre: tuple[float, ...]
    scale: tuple[float, ...]
    kernels: tuple[str, ...]
    gpus: tuple[str, ...]

    def inputs(self, contexts: Contexts) -> NDArray[np.float64]:
        """Return [num_contexts, num_inputs]."""
        scaled = (contexts.numbers - np.array(self.centre)) / np.array(self.scale)
        return np.concatenate(
            [
                np.clip(scaled, -_FARTHEST, _FARTHEST),
                contexts.flags,
                _one_of(contexts.kernel, self.kernels) * _NAME_SCALE,
                _one_of(contexts.gpu, self.gpus) * _NAME_SCALE,
            ],
            axis=1,
        )

    @property
    def num_names(self) -> int:
        """Inputs that stand for a name."""
        return len(self.kernels) + len(self.gpus)


def encoder_of(contexts: Contexts) -> Encoder:
    """Return the encoder of the contexts that a network is fitted to."""
    spread = contexts.numbers.std(axis=0)
    return Encoder(
        centre=tuple(contexts.numbers.mean(axis=0).tolist()),
        scale=tuple(np.where(spread > 0, spread, 1.0).tolist()),
        kernels=tuple(sorted(contexts.kernel.used())),
        gpus=tuple(sorted(contexts.gpu.used())),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Two hidden layers; `weights` are [inputs, hidden], [hidden, hidden], [hidden, num_terms]."""

    weights: tuple[NDArray[np.float64], ...]
    biases: tuple[NDArray[np.float64], ...]

    def log_coefficients(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the natural logarithm of each term's coefficient, [num_contexts, num_terms]."""
        activations = inputs
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            activations = silu(activations @ weight + bias)
        return np.clip(activations @ self.weights[-1] + self.biases[-1], LOWEST, HIGHEST)


def silu(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return x / (1 + exp(-x)). Source: Hendrycks and Gimpel, arXiv:1606.08415."""
    result: NDArray[np.float64] = values / (1 + np.exp(-np.clip(values, -60, 60)))
    return result


def _one_of(names: Labels, known: tuple[str, ...]) -> NDArray[np.float64]:
    place = {name: column for column, name in enumerate(known)}
    rows = np.zeros((len(names.names), len(known)))
    for row, name in enumerate(names.names):
        if name in place:
            rows[row, place[name]] = 1.0
    inputs: NDArray[np.float64] = rows[names.codes]
    return inputs
