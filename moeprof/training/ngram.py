"""A byte model of the two bytes before, the yardstick that a trained model has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NUM_BYTES = 256
_NUM_ROUNDS = 50


@dataclass(frozen=True, slots=True, eq=False)
class TrigramModel:
    """An interpolated 3-gram byte model: four estimates mixed with weights fitted to other text.

    Jelinek-Mercer interpolation (Jelinek & Mercer 1980; Chen & Goodman, cmp-lg/9606011) of what
    the training text says after two bytes, after one, without context, and of the uniform 1/256;
    the weights depend on how often the context was seen, one set for each power of two.
    """

    counts: NDArray[np.int64]
    """How often a byte followed two bytes in the training text, [256, 256, 256]."""
    weights: NDArray[np.float64]
    """Weights of the four estimates, [num_bins, 4]; each row's sum is 1."""

    def bits_per_byte(self, text: bytes) -> float:
        """Return the mean of -log2 of each byte's probability, from the third byte on."""
        estimates, bins = _estimates(self.counts, text)
        return float(-np.log2((estimates * self.weights[bins]).sum(1)).mean())


def fit_trigram(train: bytes, validation: bytes) -> TrigramModel:
    """Count `train` and fit the weights to `validation` by expectation maximisation.

    Both must have at least three bytes.
    """
    codes = _codes(train)
    counts = np.bincount(
        (codes[:-2] * _NUM_BYTES + codes[1:-1]) * _NUM_BYTES + codes[2:],
        minlength=_NUM_BYTES**3,
    ).reshape(_NUM_BYTES, _NUM_BYTES, _NUM_BYTES)
    estimates, bins = _estimates(counts, validation)
    num_bins = int(counts.sum()).bit_length() + 1
    weights = np.full((num_bins, 4), 0.25)
    for _ in range(_NUM_ROUNDS):
        shares = estimates * weights[bins]
        shares /= shares.sum(1, keepdims=True)
        for number in np.unique(bins):
            weights[number] = shares[bins == number].mean(0)
    return TrigramModel(counts, weights)


def _codes(text: bytes) -> NDArray[np.int64]:
    return np.frombuffer(text, dtype=np.uint8).astype(np.int64)


def _estimates(
    counts: NDArray[np.int64], text: bytes
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return four probabilities of each byte from the third on, [num_bytes - 2, 4], and its bin.

    The bin is the number of binary digits of how often the two bytes before it were seen.
    """
    codes = _codes(text)
    second, first, byte = codes[:-2], codes[1:-1], codes[2:]
    of_pairs = counts.sum(0)
    of_bytes = of_pairs.sum(0)
    num_pairs, num_firsts = counts.sum(2), of_pairs.sum(1)
    seen = num_pairs[second, first]
    estimates = np.stack(
        [
            counts[second, first, byte] / np.maximum(seen, 1),
            of_pairs[first, byte] / np.maximum(num_firsts[first], 1),
            of_bytes[byte] / of_bytes.sum(),
            np.full(len(byte), 1 / _NUM_BYTES),
        ],
        axis=1,
    )
    return estimates, np.frexp(seen)[1].astype(np.int64)
