"""The rows of the fullest rank under the power law of aiconfigurator's collector.

Source: https://github.com/ai-dynamo/aiconfigurator, `collector/helper.py`, functions
`_generate_power_law_distribution` and `_round_robin_adjust_per_rank`. `routing.power_law` says
how the counts come about on one rank; on several, what the bound of one row per token and rounding
leave over is given to (or taken from) the ranks in turn, each time to the emptiest (from the
fullest) expert of the rank, and a rank without room is passed over. The collector then measures
the rank that has most rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moeprof.workload.routing.packed import packed_rows
from moeprof.workload.routing.power_law import truncated_power_law

if TYPE_CHECKING:
    from numpy.typing import NDArray


def fullest_rank_rows(
    quantiles: NDArray[np.float64],
    exponent: float,
    *,
    batch_sizes: NDArray[np.int64],
    top_k: int,
    ep_size: int,
    packed: bool = False,
) -> NDArray[np.int64]:
    """Return rows per expert of the fullest rank, [num_batches, num_draws, num_experts / ep_size].

    `quantiles`, [num_draws, num_experts], each in 0..1, say where in the distribution each expert
    lies. They are the same for every batch size, so that the rows of an expert change smoothly.
    With `packed`, the collector mended its counts as it did until April 2026, see `routing.packed`.
    """
    wanted, num_tokens, num_rows = _wanted(quantiles, exponent, batch_sizes, top_k)
    if packed:
        rows = packed_rows(wanted, num_tokens, num_rows).reshape(len(wanted), ep_size, -1)
    else:
        rows = _mended(wanted, num_tokens, num_rows, ep_size)
    fullest = rows.sum(axis=-1).argmax(axis=-1)
    found: NDArray[np.int64] = rows[np.arange(len(rows)), fullest]
    return found.reshape(len(batch_sizes), len(quantiles), -1)


def rows_with_fullest_rank_first(
    quantiles: NDArray[np.float64],
    exponent: float,
    *,
    batch_sizes: NDArray[np.int64],
    top_k: int,
    ep_size: int,
) -> NDArray[np.int64]:
    """Return rows of all experts, [num_batches, num_draws, num_experts], where they lie.

    The fullest rank has changed places with the first; otherwise as `fullest_rank_rows`.
    """
    rows = _mended(*_wanted(quantiles, exponent, batch_sizes, top_k), ep_size)
    # Rows rise with the quantile, so sorted rows belong to the experts in that order.
    places = np.argsort(quantiles.reshape(len(quantiles), ep_size, -1), axis=-1)
    placed = np.empty_like(rows)
    np.put_along_axis(placed, np.tile(places, (len(batch_sizes), 1, 1)), rows, axis=-1)
    case, fullest = np.arange(len(placed)), placed.sum(axis=-1).argmax(axis=-1)
    first = placed[:, 0].copy()
    placed[:, 0] = placed[case, fullest]
    placed[case, fullest] = first
    return placed.reshape(len(batch_sizes), len(quantiles), -1)


def _wanted(
    quantiles: NDArray[np.float64],
    exponent: float,
    batch_sizes: NDArray[np.int64],
    top_k: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return rounded rows, [num_cases, num_experts], and tokens and rows of each case.

    A case is a batch size with a draw; tokens and rows are [num_cases, 1].
    """
    num_draws, num_experts = quantiles.shape
    num_tokens = np.repeat(batch_sizes, num_draws)[:, np.newaxis]
    num_rows = num_tokens * top_k
    crowded = num_rows > num_experts
    samples = truncated_power_law(
        np.tile(quantiles, (len(batch_sizes), 1)),
        exponent,
        np.where(crowded, 1.0, 0.01),
        np.where(crowded, 0.8 * num_tokens, 2.0),
    )
    shares = samples / samples.sum(axis=-1, keepdims=True)
    return np.rint(shares * num_rows).astype(np.int64), num_tokens, num_rows


def _mended(
    wanted: NDArray[np.int64],
    num_tokens: NDArray[np.int64],
    num_rows: NDArray[np.int64],
    ep_size: int,
) -> NDArray[np.int64]:
    """Return rising rows of each rank's experts, [num_cases, ep_size, num_local]."""
    capped = np.minimum(wanted, num_tokens)
    rows = capped.reshape(len(num_tokens), ep_size, -1)
    bound = num_tokens[..., np.newaxis]
    rows = _add(rows, (wanted - capped).sum(axis=-1), bound)
    missing = num_rows[:, 0] - rows.sum(axis=(1, 2))
    rows = _add(rows, np.maximum(missing, 0), bound)
    # Taking from the fullest is giving to the emptiest with the sign turned round.
    rows = -_add(-rows, np.maximum(-missing, 0), np.zeros_like(bound))
    return np.sort(rows, axis=-1)


def _add(
    rows: NDArray[np.int64], num_extra: NDArray[np.int64], bound: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Give `num_extra`, [num_cases], rows to the ranks in turn, to their emptiest experts.

    `rows` is [num_cases, num_ranks, num_local]; no expert gets more than `bound`.
    """
    if not num_extra.any():
        return rows
    return _fill_emptiest(rows, _in_turn((bound - rows).sum(axis=-1), num_extra))


def _in_turn(room: NDArray[np.int64], num_extra: NDArray[np.int64]) -> NDArray[np.int64]:
    """Deal `num_extra` to ranks in turn, passing over those without `room`, [num_cases, num_ranks].

    What does not fit anywhere is not dealt.
    """
    num_ranks = room.shape[-1]
    ascending = np.sort(room, axis=-1)
    below = np.cumsum(ascending, axis=-1)
    # needed[i]: what it takes until the i + 1 ranks with least room are full.
    needed = below + ascending * (num_ranks - 1 - np.arange(num_ranks))
    num_full = (needed <= num_extra[:, np.newaxis]).sum(axis=-1)
    taken = np.where(
        num_full > 0, np.take_along_axis(below, np.maximum(num_full - 1, 0)[:, None], 1)[:, 0], 0
    )
    num_open = np.maximum(num_ranks - num_full, 1)
    level, left = np.divmod(np.maximum(num_extra - taken, 0), num_open)
    is_open = room > level[:, np.newaxis]
    is_next = is_open & (np.cumsum(is_open, axis=-1) <= left[:, np.newaxis])
    all_full = (num_full == num_ranks)[:, np.newaxis]
    return np.where(all_full, room, np.minimum(room, level[:, np.newaxis]) + is_next)


def _fill_emptiest(rows: NDArray[np.int64], num_extra: NDArray[np.int64]) -> NDArray[np.int64]:
    """Add rows one by one to the emptiest expert of each rank; the experts come back sorted.

    `rows` is [num_cases, num_ranks, num_local], `num_extra` [num_cases, num_ranks].
    """
    num_local = rows.shape[-1]
    place = np.arange(num_local)
    ascending = np.sort(rows, axis=-1)
    total = np.cumsum(ascending, axis=-1)
    # needed[i]: rows it takes to lift the i + 1 emptiest experts to the level of number i.
    needed = (place + 1) * ascending - total
    num_lifted = (needed <= num_extra[..., np.newaxis]).sum(axis=-1)
    lifted = np.take_along_axis(total, (num_lifted - 1)[..., np.newaxis], axis=-1)[..., 0]
    level, left = np.divmod(lifted + num_extra, num_lifted)
    raised = level[..., np.newaxis] + (place < left[..., np.newaxis])
    return np.where(place < num_lifted[..., np.newaxis], raised, ascending)
