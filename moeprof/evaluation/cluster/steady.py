"""The temperatures that a scene's GPUs settle at under one kind of load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.evaluation.cluster.links import rows_between
from moeprof.evaluation.cluster.state import ClusterState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.evaluation.cluster.cluster import Cluster
    from moeprof.workload.layer import MoELayer

_NUM_DRAWS: Final = 16
_NUM_ROUNDS: Final = 60  # half of the way each: leakage and clocks answer to the temperature
_BEGIN_WATTS_FRACTION: Final = 0.3  # of the limit
_MOST_CELSIUS: Final = 150.0


def steady_state(
    cluster: Cluster, rows: NDArray[np.int64], sent: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (die, heatsink) in degrees Celsius, [num_ranks] each, after steps for ever.

    `rows`, [num_layers, num_ranks, num_experts], and `sent`, [num_layers, num_ranks, num_ranks],
    are layers of a load; a rank's power is that over all of them.
    """
    watts = np.full(len(cluster.speed), _BEGIN_WATTS_FRACTION * cluster.physics.power_limit_watts)
    links_seconds = 2 * cluster.transfer_seconds(sent)  # combine takes as long as dispatch
    for _ in range(_NUM_ROUNDS):
        die, sink = cluster.heat.steady(cluster.ambient_celsius, watts)
        now = np.broadcast_to(np.minimum(die, _MOST_CELSIUS), rows.shape[:2])
        state = ClusterState(cluster, now, now)
        cost = state.run_layer(rows)
        attention = np.broadcast_to(state.attention_seconds(), now.shape)
        busy = cost.seconds + attention
        seconds = busy.max(axis=1) + links_seconds
        joules = cost.seconds * cost.watts + attention * state.attention_watts()
        joules = joules + (seconds[:, None] - busy) * state.waiting_watts
        watts = (watts + joules.sum(axis=0) / seconds.sum()) / 2
    die, sink = cluster.heat.steady(cluster.ambient_celsius, watts)
    return np.minimum(die, _MOST_CELSIUS), np.minimum(sink, _MOST_CELSIUS)


def uniform_load(
    layer: MoELayer, batch_size: int, num_ranks: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (rows, sent) of some layers whose tokens like all experts alike, as `steady_state`.

    Experts sit on the ranks in their order; the draw is always the same.
    """
    draw = np.random.default_rng(0)
    shape = (_NUM_DRAWS, batch_size, layer.num_experts)
    experts = draw.random(shape).argsort(axis=2)[:, :, : layer.top_k]
    ranks = experts * num_ranks // layer.num_experts
    rows = np.zeros((_NUM_DRAWS, num_ranks, layer.num_experts), dtype=np.int64)
    np.add.at(rows, (np.arange(_NUM_DRAWS)[:, None, None], ranks, experts), 1)
    return rows, rows_between(ranks, np.ones(ranks.shape, dtype=bool), num_ranks)
