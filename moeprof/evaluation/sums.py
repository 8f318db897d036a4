"""Sums of per-token figures for each request, all that a long text leaves in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from moeprof.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor


def check_tokens(requests: Tensor, **others: Tensor | None) -> None:
    """Return if all are of as many tokens as `requests`, [num_tokens]; None is of any number.

    Raises InputError: one is not, so that its rows would be taken for those of other tokens.
    """
    for name, values in others.items():
        if values is not None and len(values) != len(requests):
            raise InputError(
                f"{name}: must be of {len(requests)} tokens as requests are, got {len(values)}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class RequestSums:
    """What each request's tokens add up to, in the order of the requests' numbers.

    `requests` and `num_tokens` are [num_requests]; `sums` has one array so shaped for each figure.
    """

    requests: NDArray[np.int64]
    num_tokens: NDArray[np.int64]
    sums: Mapping[str, NDArray[np.float64]]


@dataclass(slots=True)
class SumsByRequest:
    """Adds up figures of tokens by request; pieces may come in any order and size."""

    names: tuple[str, ...]
    _num_tokens: dict[int, int] = field(default_factory=dict)
    _sums: dict[int, NDArray[np.float64]] = field(default_factory=dict)

    def add(self, requests: Tensor, figures: Mapping[str, Tensor]) -> None:
        """Add a figure of each token, [num_tokens], to the request, [num_tokens], it belongs to."""
        # On the CPU additions have one order, so that a seed gives one answer on every device.
        numbers, places = torch.unique(requests.cpu(), return_inverse=True)
        values = torch.stack([figures[name].double() for name in self.names], dim=-1).cpu()
        sums = torch.zeros(len(numbers), len(self.names), dtype=torch.float64)
        sums.index_add_(0, places, values)
        counts = torch.bincount(places, minlength=len(numbers))
        for number, count, row in zip(numbers.tolist(), counts.tolist(), sums.numpy(), strict=True):
            self._num_tokens[number] = self._num_tokens.get(number, 0) + count
            self._sums[number] = self._sums.get(number, 0.0) + row

    def so_far(self) -> RequestSums:
        """Return the sums of everything that has been added."""
        requests = sorted(self._sums)
        rows = np.array([self._sums[number] for number in requests]).reshape(-1, len(self.names))
        return RequestSums(
            requests=np.array(requests, dtype=np.int64),
            num_tokens=np.array([self._num_tokens[number] for number in requests], dtype=np.int64),
            sums={name: rows[:, column] for column, name in enumerate(self.names)},
        )
