"""Windows of a text in an order that follows from a seed, so that a resumed run sees the same."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class TokenText:
    """A text as tokens, [num_tokens], and the bytes that they stand for."""

    tokens: NDArray[np.integer]
    num_bytes: int


@dataclass(frozen=True, slots=True)
class _Epoch:
    seed: int
    number: int
    num_windows: int
    num_offsets: int


def training_batch(
    text: TokenText, *, step: int, num_windows: int, length: int, seed: int
) -> Tensor:
    """Return the batch of one step, [num_windows, length + 1], int64; its last token is a target.

    An epoch takes every window of the text once, in random order, cut at a random offset. The
    batch follows from the arguments alone: nothing is drawn before it. `text` must have more than
    `length` tokens.
    """
    spare = len(text.tokens) - 1
    assert spare >= length, "a corpus is checked when it is read"
    num_of_epoch = max(1, (spare - length) // length)
    num_offsets = min(length, spare - num_of_epoch * length + 1)
    rows = []
    for index in range(step * num_windows, (step + 1) * num_windows):
        number, place = divmod(index, num_of_epoch)
        offset, order = _shuffled(_Epoch(seed, number, num_of_epoch, num_offsets))
        start = offset + int(order[place]) * length
        rows.append(text.tokens[start : start + length + 1])
    return torch.from_numpy(np.stack(rows).astype(np.int64))


@lru_cache(maxsize=2)  # a step may end one epoch and begin the next
def _shuffled(epoch: _Epoch) -> tuple[int, NDArray[np.int64]]:
    random = np.random.default_rng([epoch.seed, epoch.number])
    return int(random.integers(epoch.num_offsets)), random.permutation(epoch.num_windows)


def judged_batches(
    text: TokenText, *, length: int, num_per_batch: int, num_windows_max: int | None = None
) -> Iterator[Tensor]:
    """Yield batches, [at most num_per_batch, length + 1], int64, that predict no token twice.

    Windows stand side by side from the text's beginning, and each predicts all but its first
    token; of too many, evenly spaced ones are taken. What is left at the end is not judged.
    """
    num_windows = (len(text.tokens) - 1) // length
    chosen = np.arange(num_windows)
    if num_windows_max is not None and num_windows_max < num_windows:
        chosen = np.linspace(0, num_windows - 1, num_windows_max).round().astype(np.int64)
    for first in range(0, len(chosen), num_per_batch):
        starts = chosen[first : first + num_per_batch] * length
        rows = np.stack([text.tokens[start : start + length + 1] for start in starts])
        yield torch.from_numpy(rows.astype(np.int64))
