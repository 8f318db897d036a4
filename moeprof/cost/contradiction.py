"""What a rule finds: rows that break it, by how much, and in which words to say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Contradiction:
    """Rows that break one rule, all arrays [num_suspects].

    `excess` is how far the row is from what is expected and `allowed` how far it may be, both as
    absolute log ratios. `found` and `expected` are in `unit`.
    """

    rows: NDArray[np.int64]
    found: NDArray[np.float64]
    expected: NDArray[np.float64]
    excess: NDArray[np.float64]
    allowed: NDArray[np.float64]
    unit: str
    against: str

    def detail(self, place: int) -> str:
        """Return what was found and against what, of one of the rows."""
        return (
            f"{self.found[place]:.4g} {self.unit}, {self.against} {self.expected[place]:.4g} "
            f"{self.unit} (allowed: a factor of {np.exp(self.allowed[place]):.2f})"
        )


def contradiction(
    odd: NDArray[np.bool_],
    figures: tuple[NDArray[np.float64], ...],
    *,
    unit: str,
    against: str,
    index: NDArray[np.int64] | None = None,
) -> Contradiction:
    """Return the odd ones of the rows that `index` names, or of all.

    `figures` are what was found and expected, the excess and what is allowed, [num_rows] each.
    """
    found, expected, excess, allowed = (each[odd] for each in figures)
    rows = np.flatnonzero(odd) if index is None else index[odd]
    return Contradiction(rows, found, expected, excess, allowed, unit, against)


def log_ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log(above / below), [num_points]; NaN where either is absent or not above 0."""
    sound = (above > 0) & (below > 0)
    ratio = np.divide(above, below, out=np.full(len(above), np.nan), where=sound)
    logs: NDArray[np.float64] = np.log(ratio)
    return logs
