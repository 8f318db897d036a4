"""The occupancy to expect of a named routing pattern, for many points at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypedDict, assert_never

import numpy as np

from moeprof.errors import WorkloadError
from moeprof.workload.occupancy.counts import TILE_ROWS, Occupancy
from moeprof.workload.occupancy.even import even_figures
from moeprof.workload.occupancy.grouped import grouped_rows_of_counts, grouped_strided_rows
from moeprof.workload.occupancy.popularity import rows_by_popularity
from moeprof.workload.occupancy.power_law import (
    fullest_rank_rows,
    rows_with_fullest_rank_first,
)
from moeprof.workload.routing.check import check
from moeprof.workload.routing.draw import draw
from moeprof.workload.routing.grouped import is_limiting
from moeprof.workload.routing.pattern import (
    Active,
    Balanced,
    Dirichlet,
    Grouped,
    Hot,
    PackedPowerLaw,
    Pattern,
    PowerLaw,
    Replay,
    Strided,
    Uniform,
    Zipf,
)
from moeprof.workload.routing.rows import rows_per_expert
from moeprof.workload.routing.strided import strided_rows
from moeprof.workload.routing.text import parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

_SEED: Final = 0  # of the power law's quantiles; any number would do
_NUM_AT_ONCE: Final = 4_000_000  # counts held at a time, which bounds the memory
_NUM_AT_ONCE_GROUPED: Final = 150_000  # of those, each makes a token of top_k squared comparisons
_NUM_ENOUGH: Final = 2048  # experts and draws together, where all experts are alike


class _Sizes(TypedDict):
    batch_sizes: NDArray[np.int64]
    top_k: int
    ep_size: int


def expected_occupancy(
    pattern: Sequence[str] | str,
    num_experts: ArrayLike,
    top_k: ArrayLike,
    batch_size: ArrayLike,
    ep_size: ArrayLike,
    *,
    num_draws: int = 16,
) -> Occupancy:
    """Return the occupancy of rank 0 that each point's routing pattern leads one to expect.

    All arguments are [num_points], or scalars that hold for every point; the patterns are written
    as `routing.parse` reads them. Points that agree in everything are computed once. The result
    follows from the arguments alone. `ep_size` ranks hold the experts contiguously.

    - `balanced`, `active:N` and `strided` are exact. Under `strided` rank 0 has the first experts.
    - `power_law:a` and `packed_power_law:a` are what aiconfigurator's collector does and did: the
      fullest rank stands for all.
    - `PATTERN/groups:N@M`: where a token of PATTERN may need more groups than M, what a gate with
      groups makes of `strided` (exact), of the collector's power law, or of drawn tokens.
    - `uniform`, `zipf:s`, `dirichlet:a` and `hot:N@share` are means over `num_draws` popularities;
      `replay:FILE` is the mean over as many stretches of the recording.

    Raises:
        WorkloadError: a pattern is unknown or impossible for its layer and batch size, or ranks
            cannot share the experts.

    """
    texts, which = _distinct([pattern] if isinstance(pattern, str) else pattern)
    columns = [np.asarray(each, dtype=np.int64) for each in (num_experts, top_k, ep_size)]
    keys = np.broadcast_arrays(which, *columns, np.asarray(batch_size, dtype=np.int64))
    unique, inverse = _unique_rows([np.atleast_1d(each) for each in keys])
    figures = np.empty((len(unique), 3 + len(TILE_ROWS)))
    patterns = [parse(text) for text in texts]
    layers, place = np.unique(unique[:, :-1], axis=0, return_inverse=True)
    order = np.argsort(place.ravel(), kind="stable")
    borders = np.searchsorted(place.ravel()[order], np.arange(len(layers) + 1))
    for layer, start, end in zip(layers.tolist(), borders[:-1], borders[1:], strict=True):
        rows = order[start:end]
        text, experts, k, ranks = layer
        figures[rows] = _figures(patterns[text], experts, k, ranks, unique[rows, -1], num_draws)
    found = figures[inverse]
    return Occupancy(found[:, 0], found[:, 1], found[:, 2], found[:, 3:])


def _figures(
    pattern: Pattern,
    num_experts: int,
    top_k: int,
    ep_size: int,
    batch_sizes: NDArray[np.int64],
    num_draws: int,
) -> NDArray[np.float64]:
    """Return active experts, rows, fullest expert and tiles of each batch, [num_batches, 9]."""
    for num_tokens in (int(batch_sizes.min()), int(batch_sizes.max())):
        check(pattern, num_experts=num_experts, top_k=top_k, num_tokens=num_tokens)
    if not 1 <= ep_size <= num_experts:
        raise WorkloadError(f"ep_size must lie in 1..{num_experts} (num_experts), got {ep_size}")
    if isinstance(pattern, Grouped) and not _limits(pattern, num_experts, top_k):
        pattern = pattern.meant
    num_local = -(-num_experts // ep_size)
    if isinstance(pattern, Balanced | Active):
        num_active = num_experts if isinstance(pattern, Balanced) else pattern.num_active
        return even_figures(num_active, num_experts, num_local, batch_sizes * top_k)
    if isinstance(pattern, Uniform):
        num_draws = min(num_draws, -(-_NUM_ENOUGH // num_local))
    at_once = _NUM_AT_ONCE_GROUPED if isinstance(pattern, Grouped) else _NUM_AT_ONCE
    step = max(1, at_once // (num_draws * num_experts))
    parts = []
    for start in range(0, len(batch_sizes), step):
        some = batch_sizes[start : start + step]
        rows = _rows(pattern, num_experts, top_k, ep_size, some, num_draws)
        parts.append(_mean_over_draws(rows))
    return np.concatenate(parts)


def _rows(
    pattern: (
        Uniform | Strided | Zipf | PowerLaw | PackedPowerLaw | Dirichlet | Hot | Grouped | Replay
    ),
    num_experts: int,
    top_k: int,
    ep_size: int,
    batch_sizes: NDArray[np.int64],
    num_draws: int,
) -> NDArray[np.int64]:
    """Return rows per expert of the rank, [num_batches, num_draws, num_local]."""
    num_local = -(-num_experts // ep_size)
    layer = {"num_experts": num_experts, "top_k": top_k}
    match pattern:
        case Strided():
            counts = [strided_rows(num_tokens=size, **layer) for size in batch_sizes.tolist()]
            return np.stack(counts)[:, np.newaxis, :num_local]
        case Grouped(Strided()):
            counts = [
                grouped_strided_rows(pattern, num_tokens=size, **layer)
                for size in batch_sizes.tolist()
            ]
            return np.stack(counts)[:, np.newaxis, :num_local]
        case PowerLaw(exponent) | PackedPowerLaw(exponent) | Grouped(PowerLaw(exponent)):
            if num_experts % ep_size:
                raise WorkloadError(
                    f"routing pattern {pattern}: ep_size must divide num_experts ({num_experts}), "
                    f"got {ep_size}"
                )
            quantiles = np.random.default_rng(_SEED).random((num_draws, num_experts))
            sizes: _Sizes = {"batch_sizes": batch_sizes, "top_k": top_k, "ep_size": ep_size}
            if not isinstance(pattern, Grouped):
                packed = isinstance(pattern, PackedPowerLaw)
                return fullest_rank_rows(quantiles, exponent, packed=packed, **sizes)
            meant = rows_with_fullest_rank_first(quantiles, exponent, **sizes)
            tokens = np.repeat(batch_sizes, num_draws)
            flat = grouped_rows_of_counts(pattern, meant.reshape(len(tokens), -1), tokens, top_k)
            return flat.reshape(meant.shape)[..., :num_local]
        case Replay() | Grouped():
            return np.stack(
                [
                    [
                        rows_per_expert(
                            draw(pattern, num_tokens=size, seed=seed, **layer), num_experts
                        )[:num_local]
                        for seed in range(num_draws)
                    ]
                    for size in batch_sizes.tolist()
                ]
            )
        case Uniform() | Zipf() | Dirichlet() | Hot():
            return rows_by_popularity(
                pattern, batch_sizes=batch_sizes, num_local=num_local, num_draws=num_draws, **layer
            )
        case _:
            assert_never(pattern)


def _limits(pattern: Grouped, num_experts: int, top_k: int) -> bool:
    return is_limiting(
        num_experts=num_experts,
        top_k=top_k,
        num_groups=pattern.num_groups,
        num_allowed=pattern.num_allowed,
    )


def _mean_over_draws(rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the figures of [num_batches, num_draws, num_local] rows, [num_batches, 9]."""
    sums = [(rows > 0).sum(axis=-1), rows.sum(axis=-1), rows.max(axis=-1)]
    sums += [(-(-rows // height)).sum(axis=-1) for height in TILE_ROWS]
    means: NDArray[np.float64] = np.stack(sums, axis=-1).mean(axis=1)
    return means


def _distinct(texts: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the distinct texts, and which of them each point has, [num_points]."""
    number: dict[str, int] = {}
    which = np.fromiter((number.setdefault(text, len(number)) for text in texts), dtype=np.int64)
    return list(number), which


def _unique_rows(
    columns: Sequence[NDArray[np.int64]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct rows of the columns, and where each row is among them.

    Column by column, because sorting whole rows of a million points takes many times as long.
    """
    code = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        values, place = np.unique(column, return_inverse=True)
        _, code = np.unique(code * len(values) + place, return_inverse=True)
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    return np.stack([column[first] for column in columns], axis=-1), inverse
