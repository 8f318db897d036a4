"""A column of texts as whole numbers, so that a million of them are compared at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from moeprof.cost.grouping import ranks

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

UNKNOWN: Final = "unknown"  # as the importers name a kernel that a source does not


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """The texts `names[codes[i]]` of points i; `codes` is [num_points] of int32.

    Names are distinct. Points taken from others keep all names, also those no longer in use.
    """

    codes: NDArray[np.int32]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Labels:
        """Return the labels of some points, by their indices or by a mask [num_points]."""
        return Labels(self.codes[index], self.names)

    def texts(self) -> list[str]:
        """Return the text of each point."""
        return [self.names[code] for code in self.codes.tolist()]

    def used(self) -> tuple[str, ...]:
        """Return the names that points have, in the order of `names`."""
        return tuple(self.names[code] for code in np.unique(self.codes).tolist())

    def numbers(self, number: Callable[[str], float]) -> NDArray[np.float64]:
        """Return a number for each point, [num_points], asked for once per name in use."""
        by_name = np.full(len(self.names), np.nan)
        for code in np.unique(self.codes).tolist():
            by_name[code] = number(self.names[code])
        return by_name[self.codes]


def labels_of(column: pa.ChunkedArray | None, num_points: int) -> Labels:
    """Return an Arrow column of texts as labels; null, or no column at all, is `UNKNOWN`."""
    if column is None or pa.types.is_null(column.type):
        return Labels(np.zeros(num_points, dtype=np.int32), (UNKNOWN,))
    filled = column.cast(pa.string()).fill_null(UNKNOWN).combine_chunks().dictionary_encode()
    codes = np.asarray(filled.indices.to_numpy(zero_copy_only=False), dtype=np.int32)
    return Labels(codes, tuple(filled.dictionary.to_pylist()))


def joined(first: Labels, second: Labels, join: Callable[[str, str], str]) -> Labels:
    """Return the labels made of two others, where `join` makes a name of both their names."""
    pairs = first.codes.astype(np.int64) * len(second.names) + second.codes
    which, num_pairs = ranks(pairs)
    distinct = np.empty(num_pairs, dtype=np.int64)
    distinct[which] = pairs
    of_first, of_second = np.divmod(distinct, len(second.names))
    number: dict[str, int] = {}
    codes = [
        number.setdefault(join(first.names[one], second.names[two]), len(number))
        for one, two in zip(of_first.tolist(), of_second.tolist(), strict=True)
    ]
    return Labels(np.array(codes, dtype=np.int32)[which], tuple(number))
