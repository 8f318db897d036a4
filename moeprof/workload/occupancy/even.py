"""What to expect of a rank where rows are spread evenly over experts chosen at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from moeprof.workload.occupancy.counts import TILE_ROWS

if TYPE_CHECKING:
    from numpy.typing import NDArray


def even_figures(
    num_active: int, num_experts: int, num_local: int, num_rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return active experts, rows, fullest expert and tiles of one rank, [num_batches, 9].

    `num_active` of all experts share `num_rows`, [num_batches], so that their counts differ by at
    most one. Which they are, and which have one more, is equally likely for every choice, so how
    many of them are among the `num_local` of the rank is hypergeometric.
    """
    least, num_fuller = np.divmod(num_rows, num_active)
    fuller = num_fuller / num_experts
    others = (num_active - num_fuller) / num_experts
    any_fuller = 1 - _chance_of_none(num_fuller, num_experts, num_local)
    any_active = 1 - _chance_of_none(np.full_like(num_rows, num_active), num_experts, num_local)
    heights = np.array(TILE_ROWS)
    tiles = fuller[:, np.newaxis] * -(-(least[:, np.newaxis] + 1) // heights)
    tiles += others[:, np.newaxis] * -(-least[:, np.newaxis] // heights)
    return np.column_stack(
        [
            num_local * (fuller + others * (least > 0)),
            num_local * num_rows / num_experts,
            any_fuller + least * any_active,
            num_local * tiles,
        ]
    )


def _chance_of_none(
    num_marked: NDArray[np.int64], num_experts: int, num_local: int
) -> NDArray[np.float64]:
    """Return the chance that none of the marked experts is among the local ones."""
    elsewhere = num_experts - num_local
    possible = num_marked <= elsewhere
    marked = np.where(possible, num_marked, 0)
    log_chance = _log_choices(elsewhere, marked) - _log_choices(num_experts, marked)
    return np.where(possible, np.exp(log_chance), 0.0)


def _log_choices(of: int, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = gammaln(of + 1) - gammaln(chosen + 1) - gammaln(of - chosen + 1)
    return found
