"""Rows that contradict physics or each other, listed with a reason and never dropped."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.contradictions import faster_than_memory, repeats_disagree
from moeprof.cost.power_contradictions import falls_with_tokens, jumps_between_neighbours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from moeprof.cost.contradiction import Contradiction
    from moeprof.cost.points import Observed, Points

_LEAST_WEIGHT: Final = 0.01  # a row that is listed still says a little


class Reason(StrEnum):
    """Why a row is suspect; the quantity in doubt stands before the colon."""

    FASTER_THAN_MEMORY = "latency_seconds: faster than the memory can be read"
    LATENCY_REPEATS = "latency_seconds: repeats of identical work disagree"
    POWER_REPEATS = "average_watts: repeats of identical work disagree"
    POWER_JUMPS = "average_watts: jumps between neighbouring batch sizes where latency does not"
    POWER_FALLS = "average_watts: falls as the batch grows"

    @property
    def quantity(self) -> str:
        """The column in doubt: latency_seconds or average_watts."""
        return self.value.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Suspect:
    """One row, by its place among the points, in doubt for one reason.

    `detail` says what was found and what was expected. `weight_fraction` is what the row should
    count in a fit of the quantity in doubt: the square of (what is allowed / what was found), both
    as log ratios, and at least 0.01.
    """

    row: int
    reason: Reason
    detail: str
    weight_fraction: float


def suspects(points: Points, observed: Observed) -> tuple[Suspect, ...]:
    """Return the suspect rows, by row and then reason; a row may be in doubt more than once.

    `contradictions` and `power_contradictions` have the rules and their thresholds.
    """
    seconds, watts = observed.latency_seconds, observed.average_watts
    found = {
        Reason.FASTER_THAN_MEMORY: faster_than_memory(points, seconds),
        Reason.LATENCY_REPEATS: repeats_disagree(points, seconds, "s"),
        Reason.POWER_REPEATS: repeats_disagree(points, watts, "W"),
        Reason.POWER_JUMPS: jumps_between_neighbours(points, watts, seconds),
        Reason.POWER_FALLS: falls_with_tokens(points, watts),
    }
    listed = [each for reason, rows in found.items() for each in _listed(reason, rows)]
    return tuple(sorted(listed, key=lambda each: (each.row, each.reason)))


def fit_weights(found: Sequence[Suspect], num_points: int, quantity: str) -> NDArray[np.float64]:
    """Return what each row should count in a fit of a quantity, [num_points], in 0.01..1.

    `quantity` is `latency_seconds` or `average_watts`; of several reasons the gravest counts.
    """
    weights = np.ones(num_points)
    for each in found:
        if each.reason.quantity == quantity:
            weights[each.row] = min(weights[each.row], each.weight_fraction)
    return weights


def _listed(reason: Reason, found: Contradiction) -> list[Suspect]:
    weights = np.clip((found.allowed / found.excess) ** 2, _LEAST_WEIGHT, 1.0)
    return [
        Suspect(row, reason, found.detail(place), weight)
        for place, (row, weight) in enumerate(
            zip(found.rows.tolist(), weights.tolist(), strict=True)
        )
    ]
