"""GPUs while a run goes on: what a layer costs them now, and how a step warms them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from moeprof.evaluation.cluster.clock import (
    at_clock,
    fitting_clock,
    squared_voltage,
    thermal_clock,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.evaluation.cluster.clock import Demand
    from moeprof.evaluation.cluster.cluster import Cluster


@dataclass(frozen=True, slots=True, eq=False)
class LayerCost:
    """What the experts of one layer take on every rank, [num_seeds, num_ranks] each.

    `seconds` and `watts` are at the rank's own temperature, clock and speed; `expected_seconds`
    and `expected_watts` are what a cost model expects that knows none of these. `clock_fraction`
    is of the highest clock; where it is held below that, `is_throttled`. A rank without rows takes
    0 s, and its watts are those of waiting.
    """

    seconds: NDArray[np.float64]
    expected_seconds: NDArray[np.float64]
    watts: NDArray[np.float64]
    expected_watts: NDArray[np.float64]
    clock_fraction: NDArray[np.float64]
    is_throttled: NDArray[np.bool_]

    @property
    def throttled_seconds(self) -> NDArray[np.float64]:
        """Seconds of work at a clock that was held down, [num_seeds, num_ranks]."""
        return self.seconds * self.is_throttled


class ClusterState:
    """Temperatures, clocks and power of a scene's GPUs, all seeds in lockstep.

    `die_celsius` is that of now; `sm_clock_hertz`, of busy SMs, and `power_watts` are means over
    the last step, or, before the first, what a waiting GPU has. All are [num_seeds, num_ranks].
    """

    def __init__(
        self,
        cluster: Cluster,
        die_celsius: NDArray[np.float64],
        sink_celsius: NDArray[np.float64],
    ) -> None:
        self._cluster = cluster
        self.die_celsius = die_celsius
        self._sink_celsius = sink_celsius
        self._num_steps = 0
        self._num_layers = 0
        self._sum_of_clocks = np.zeros(die_celsius.shape)
        self._settle()
        self.sm_clock_hertz = self._thermal_clock * cluster.physics.sm_clock_hertz_max
        self.power_watts = self.waiting_watts

    def run_layer(self, rows: NDArray[np.int64]) -> LayerCost:
        """Return what the rows of one layer, [num_seeds, num_ranks, num_experts], cost now."""
        cluster = self._cluster
        expected = cluster.reference.at(rows)
        demand = self._own(
            cluster.warmth.warmed(expected.demand, self.die_celsius, expected.octaves)
        )
        clock = self._thermal_clock
        seconds, watts = at_clock(cluster.physics, demand, clock)
        over = watts > cluster.limit_watts
        if over.any():
            limits = np.broadcast_to(cluster.limit_watts, over.shape)[over]
            some = demand.take(over)
            clock = clock.copy()
            clock[over] = fitting_clock(cluster.physics, some, clock[over], limits)
            seconds[over], watts[over] = at_clock(cluster.physics, some, clock[over])
        self._sum_of_clocks += clock
        self._num_layers += 1
        return LayerCost(
            seconds=seconds,
            expected_seconds=expected.seconds,
            watts=np.maximum(watts, cluster.least_watts),
            expected_watts=np.minimum(expected.watts, cluster.limit_watts),
            clock_fraction=clock,
            is_throttled=clock < 1.0,
        )

    def attention_seconds(self) -> NDArray[np.float64]:
        """Return the seconds that reading one layer's KV caches takes, [num_seeds, num_ranks].

        Every rank reads those of its own tokens, at its own speed; where the clock is held down
        it takes longer as any memory-bound step does.
        """
        share = self._cluster.physics.clocked_memory_fraction
        plain = self._cluster.attention_bytes / self._cluster.physics.bytes_per_second
        found: NDArray[np.float64] = (
            plain / self._speed * (1.0 - share + share / self._thermal_clock)
        )
        return found

    def attention_watts(self) -> NDArray[np.float64]:
        """Return the power of that reading, [num_seeds, num_ranks]; of waiting, without a cache."""
        seconds = self.attention_seconds()
        joules = self._cluster.attention_bytes * self._cluster.physics.joules_per_byte
        return self.waiting_watts + joules / np.where(seconds > 0, seconds, 1.0)

    def end_step(
        self,
        step_seconds: NDArray[np.float64],
        busy_seconds: NDArray[np.float64],
        busy_joules: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Return the joules of a step over all ranks, [num_seeds], and let it warm the dies.

        `step_seconds` is [num_seeds]; `busy_seconds` and `busy_joules`, [num_seeds, num_ranks],
        are what ranks worked of it, and with what energy. The rest of the step they wait. The dies
        then take the step's mean power for the scene's `seconds_per_simulated_step`.
        """
        cluster = self._cluster
        waiting_seconds = np.maximum(step_seconds[:, None] - busy_seconds, 0.0)
        joules = busy_joules + waiting_seconds * self.waiting_watts
        self.power_watts = joules / step_seconds[:, None]
        if self._num_layers:
            mean = self._sum_of_clocks / self._num_layers
            self.sm_clock_hertz = mean * cluster.physics.sm_clock_hertz_max
        if not cluster.is_held:
            self.die_celsius, self._sink_celsius = cluster.heat.after(
                self.die_celsius, self._sink_celsius, cluster.ambient_celsius, self.power_watts
            )
        self._num_steps += 1
        self._num_layers = 0
        self._sum_of_clocks = np.zeros(self.die_celsius.shape)
        self._settle()
        total: NDArray[np.float64] = joules.sum(axis=1)
        return total

    def _own(self, demand: Demand) -> Demand:
        """Return the demand at the ranks' own speed and leakage."""
        return replace(
            demand,
            seconds=demand.seconds / self._speed,
            steady_watts=demand.steady_watts + self._more_leakage_watts,
        )

    def _settle(self) -> None:
        """Find what holds for a whole step: leakage, clock and speed."""
        cluster = self._cluster
        physics = cluster.physics
        leaking = cluster.leakage * cluster.warmth.leakage_watts(self.die_celsius)
        self._more_leakage_watts = leaking - physics.leakage_watts
        self._thermal_clock = thermal_clock(physics, self.die_celsius)
        clocking = physics.busy_watts * self._thermal_clock
        # A GPU that waits microseconds for others keeps its clocks: NVML's idle state comes later.
        self.waiting_watts = (
            physics.idle_watts + leaking + clocking * squared_voltage(physics, self._thermal_clock)
        )
        has_changed = self._num_steps >= cluster.changed_at_step
        self._speed = cluster.changed_speed if has_changed else cluster.speed
