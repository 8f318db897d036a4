"""What it costs to send rows from rank to rank, inside nodes and across them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moeprof.errors import HardwareError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.hardware.gpu import GPU, Link
    from moeprof.recipe.scene import Scene


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """Links of a group of ranks: start-up times, and seconds that each row takes.

    `within` and `across`, [num_ranks, num_ranks], are seconds of a row from a rank (row of the
    matrix) to a rank (column) in its node, and in another node; 0 where the other one counts.
    """

    within_seconds: float
    across_seconds: float
    within: NDArray[np.float64]
    across: NDArray[np.float64]

    @classmethod
    def of(cls, scene: Scene, gpu: GPU, hidden_size: int) -> Links:
        """Return the links of a scene; a row is one token's hidden vector.

        Raises:
            HardwareError: the scene's ranks need a link of which neither it nor the GPU's
                specification has the rate.

        """
        num_ranks, num_nodes = scene.gpus.num_gpus, scene.gpus.num_nodes
        node = np.arange(num_ranks) // (num_ranks // num_nodes)
        same_node = node[:, None] == node
        other_rank = ~np.eye(num_ranks, dtype=bool)
        row_bytes = hidden_size * scene.links.activation_bytes
        given = scene.links
        within = _rate("scale_up", given.scale_up_bytes_per_second, gpu, gpu.scale_up)
        across = _rate("scale_out", given.scale_out_bytes_per_second, gpu, gpu.scale_out)
        return cls(
            within_seconds=given.scale_up_seconds,
            across_seconds=given.scale_out_seconds,
            within=_seconds_per_row(same_node & other_rank, row_bytes, within),
            across=_seconds_per_row(~same_node, row_bytes, across),
        )

    def transfer_seconds(self, sent: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the seconds of one all-to-all, [num_seeds].

        `sent` is [num_seeds, num_ranks, num_ranks]: rows from a rank (second axis) to a rank. Kind
        of link by kind of link, the busiest port counts, out or in: alpha + max(bytes) / beta. Both
        kinds work at the same time, so of their rates the slower counts; both start-up times do.
        Rows that stay on their rank cost nothing, and where none leaves its rank nothing starts.
        Source: the alpha-beta model, Hockney, "The communication challenge for MPP", Parallel
        Computing 20 (3), 1994.
        """
        within = _busiest(sent * self.within)
        across = _busiest(sent * self.across)
        started = self.within_seconds * (within > 0) + self.across_seconds * (across > 0)
        found: NDArray[np.float64] = started + np.maximum(within, across)
        return found


def rows_between(
    ranks: NDArray[np.int64], is_used: NDArray[np.bool_], num_ranks: int
) -> NDArray[np.int64]:
    """Return the rows that dispatch sends, [num_seeds, num_ranks, num_ranks], from rank to rank.

    `ranks`, [num_seeds, batch_size, top_k], is where every slot is computed; `is_used`, so shaped,
    is false for a slot of weight 0. Tokens live on the ranks in turn: token i on rank i modulo
    num_ranks. A token is sent once to a rank, however many of its experts sit there, and comes
    back once, as their weighted sum (as DeepEP sends it).
    """
    num_seeds, batch_size, _ = ranks.shape
    padded = -(-batch_size // num_ranks) * num_ranks
    hit = np.zeros((num_seeds * padded, num_ranks), dtype=bool)
    token = np.arange(num_seeds)[:, None] * padded + np.arange(batch_size)
    place = token[:, :, None] * num_ranks + ranks
    hit.reshape(-1)[place[is_used]] = True
    sent: NDArray[np.int64] = hit.reshape(num_seeds, -1, num_ranks, num_ranks).sum(axis=1)
    return sent


def _busiest(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the seconds of the busiest port, [num_seeds], out or in."""
    out, into = seconds.sum(axis=2).max(axis=1), seconds.sum(axis=1).max(axis=1)
    busiest: NDArray[np.float64] = np.maximum(out, into)
    return busiest


def _rate(name: str, given: float | None, gpu: GPU, link: Link | None) -> float | str:
    """Return bytes per second, or, where nobody knows, what to say to whom needs it."""
    if given is not None:
        return given
    if link is not None:
        return link.bytes_per_second
    return f"links.{name}_bytes_per_second: must be given, as {gpu.name} has no {name} link"


def _seconds_per_row(
    linked: NDArray[np.bool_], row_bytes: float, rate: float | str
) -> NDArray[np.float64]:
    if not linked.any():
        return np.zeros(linked.shape)
    if isinstance(rate, str):
        raise HardwareError(rate, hint="Give the rate of one GPU in one direction, in bytes/s.")
    return np.where(linked, row_bytes / rate, 0.0)
