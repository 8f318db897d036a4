"""What a run adds up, step by step, and what is left of it at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moeprof.evaluation.runs import PolicyRun

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.evaluation.cluster.state import LayerCost
    from moeprof.evaluation.seated import Seated
    from moeprof.evaluation.stage import Stage


class Ledger:
    """The accounts of one policy in one scene.

    Those of the step that goes on are `busy_seconds` and `busy_joules`, [num_seeds, num_ranks],
    `makespans`, [num_seeds, num_layers], and `expected_seconds`, [num_seeds, num_layers,
    num_ranks]. Figures by step are [num_seeds, num_steps], settling steps included until `result`
    leaves them out; `seconds` and `gate_mass_fraction` are read while the run goes on.
    """

    def __init__(self, stage: Stage, seated: Seated) -> None:
        self._stage, self._seated = stage, seated
        traffic, num_ranks = stage.traffic, len(stage.cluster.speed)
        by_step = (traffic.num_seeds, traffic.num_steps)
        self.seconds, self.gate_mass_fraction = np.zeros(by_step), np.ones(by_step)
        self._joules, self._changed = np.zeros(by_step), np.zeros(by_step)
        self._active, self._dropped = np.zeros(by_step), np.zeros(by_step)
        self._by_rank = (traffic.num_seeds, num_ranks)
        self._rows, self._celsius = np.zeros(self._by_rank), np.zeros(self._by_rank)
        self._throttled = np.zeros(self._by_rank)
        self._peak = np.full(traffic.num_seeds, -np.inf)
        self._learnt: dict[str, list[NDArray[np.float64]]] = {}
        self._begin_step()

    def count(self, step: int, rows: NDArray[np.int64]) -> None:
        """Count one layer's rows, [num_seeds, num_ranks, num_experts]."""
        traffic = self._stage.traffic
        self._active[:, step] += (rows > 0).sum(axis=(1, 2)) / traffic.num_layers
        by_rank = rows.sum(axis=2)
        self._dropped[:, step] += traffic.batch_size * traffic.top_k - by_rank.sum(axis=1)
        if self._counts(step):
            self._rows += by_rank

    def judge(
        self, step: int, mass_fraction: NDArray[np.float64], changed_fraction: NDArray[np.float64]
    ) -> None:
        """Take in what one layer kept of the gate mass and changed, [num_seeds] each."""
        num_layers = self._stage.traffic.num_layers
        self.gate_mass_fraction[:, step] += (mass_fraction - 1.0) / num_layers
        self._changed[:, step] += changed_fraction / num_layers

    def spend(
        self,
        step: int,
        layer: int,
        cost: LayerCost,
        attention: tuple[NDArray[np.float64], NDArray[np.float64]],
        link_seconds: NDArray[np.float64],
    ) -> None:
        """Take in what one layer cost.

        `attention` is its seconds and watts, [num_seeds, num_ranks] each; `link_seconds`,
        [num_seeds], those of dispatch and combine.
        """
        seconds, watts = attention
        makespan = cost.seconds.max(axis=1)
        charged = self._seated.layer_seconds
        self.seconds[:, step] += seconds.max(axis=1) + link_seconds + makespan + charged
        self.busy_seconds += seconds + cost.seconds
        self.busy_joules += seconds * watts + cost.seconds * cost.watts
        if self._counts(step):
            self._throttled += cost.throttled_seconds
        self.makespans[:, layer] = makespan
        self.expected_seconds[:, layer] = cost.expected_seconds

    def learn(self, **learnt: NDArray[np.float64]) -> None:
        """Keep what adaptation has learnt after a step: a curve's next point, by name."""
        for name, values in learnt.items():
            self._learnt.setdefault(name, []).append(values.copy())

    def end_step(
        self, step: int, joules: NDArray[np.float64], die_celsius: NDArray[np.float64]
    ) -> None:
        """Close a step with its joules, [num_seeds], and temperatures, [num_seeds, num_ranks]."""
        self._joules[:, step] = joules
        if self._counts(step):
            self._celsius += die_celsius
            self._peak = np.maximum(self._peak, die_celsius.max(axis=1))
        self._begin_step()

    def result(self, loss_difference_nats: NDArray[np.float64] | None) -> PolicyRun:
        """Return the run, given all its steps' losses, [num_seeds, num_steps, batch_size]."""
        seated, num_layers = self._seated, self._stage.traffic.num_layers
        kept = slice(self._num_settling, None)
        num_kept = self._stage.traffic.num_steps - self._num_settling
        return PolicyRun(
            policy=seated.name,
            setting=seated.setting,
            claim=seated.claim,
            step_seconds=self.seconds[:, kept],
            step_joules=self._joules[:, kept],
            active_experts=self._active[:, kept],
            gate_mass_fraction=self.gate_mass_fraction[:, kept],
            changed_fraction=self._changed[:, kept],
            num_dropped_rows=self._dropped[:, kept],
            loss_difference_nats=None
            if loss_difference_nats is None
            else loss_difference_nats[:, kept],
            peak_celsius=self._peak,
            throttled_seconds=self._throttled.sum(axis=1),
            rows_fraction=self._rows / self._rows.sum(axis=1, keepdims=True),
            die_celsius=self._celsius / num_kept,
            router_seconds=seated.layer_seconds * num_layers,
            curves={
                name: np.stack(values, axis=1)[:, kept] for name, values in self._learnt.items()
            },
        )

    def _begin_step(self) -> None:
        num_seeds, num_ranks = self._by_rank
        num_layers = self._stage.traffic.num_layers
        self.busy_seconds, self.busy_joules = np.zeros(self._by_rank), np.zeros(self._by_rank)
        self.makespans = np.zeros((num_seeds, num_layers))
        self.expected_seconds = np.zeros((num_seeds, num_layers, num_ranks))

    @property
    def _num_settling(self) -> int:
        return self._stage.scene.traffic.num_settling_steps

    def _counts(self, step: int) -> bool:
        return step >= self._num_settling
