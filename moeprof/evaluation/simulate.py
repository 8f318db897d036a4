"""One policy's decode in one scene: route, dispatch, compute, wait, combine, warm up, learn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from moeprof.evaluation.channel.channel import TelemetryChannel
from moeprof.evaluation.channel.figures import Truths
from moeprof.evaluation.cluster.links import rows_between
from moeprof.evaluation.ledger import Ledger
from moeprof.evaluation.quality_of_routing import gate_quality
from moeprof.evaluation.stage import plain_routing
from moeprof.gate.rule import Routing
from moeprof.router.adaptation.adaptation import Told
from moeprof.router.protocol import RoutingContext

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from moeprof.evaluation.channel.figures import Readings
    from moeprof.evaluation.cluster.state import LayerCost
    from moeprof.evaluation.runs import PolicyRun
    from moeprof.evaluation.seated import Seated
    from moeprof.evaluation.stage import Stage

_LEAST_WATTS: Final = 1.0  # work at the clock's floor may draw less than waiting at a full clock
_TELEMETRY_STREAM: Final = 7919  # apart from the seeds that traffic draws with


def simulate(stage: Stage, seated: Seated) -> PolicyRun:
    """Return what a policy does in a scene, all seeds in lockstep.

    A step's latency is, layer by layer: what deciding and telemetry are charged, the slowest rank's
    attention, dispatch, the slowest rank's experts, combine. Ranks that wait burn what waiting
    takes. The first policy that runs on a stage must be plain top-k with its losses, which the
    others are compared with (see `simulate_plain`).
    """
    run = _Run(stage, seated)
    losses = None
    if seated.is_exact and stage.plain:
        for step in range(stage.traffic.num_steps):
            for layer in range(stage.traffic.num_layers):
                run.layer(step, layer, None, *stage.plain[step, layer])
    else:
        losses = stage.traffic.run(run.decide)
    return run.result(losses)


class _Run:
    """The state of one run."""

    def __init__(self, stage: Stage, seated: Seated) -> None:
        self._stage, self._seated = stage, seated
        traffic, cluster = stage.traffic, stage.cluster
        self._state = cluster.start()
        self._ledger = Ledger(stage, seated)
        self._num_ranks = len(cluster.speed)
        self._channel = None
        if seated.adaptation is not None or seated.reads_telemetry:
            self._channel = TelemetryChannel(
                stage.scene.telemetry,
                num_seeds=traffic.num_seeds,
                num_gpus=self._num_ranks,
                layers_per_step=traffic.num_layers,
                seed=stage.scene.seed + _TELEMETRY_STREAM,
            )
        self._readings: Readings | None = None

    def decide(self, step: int, layer: int, logits: Tensor) -> Routing:
        """Route one layer of all seeds, and let it run; the traffic goes on with the answer."""
        seated, traffic = self._seated, self._stage.traffic
        if seated.is_exact:
            experts, weights = plain_routing(traffic, layer, logits)
            self._stage.keep_plain(step, layer, Routing(experts, weights))
            self.layer(step, layer, logits, experts, weights)
            return Routing(experts, weights)
        self._read(step, layer)
        answers = [
            router.route(logits[seed], self._context(layer, seed))
            for seed, router in enumerate(seated.routers)
        ]
        experts = torch.stack([answer.experts for answer in answers])
        weights = torch.stack([answer.weights for answer in answers])
        self.layer(step, layer, logits, experts, weights)
        return Routing(experts, weights)

    def layer(
        self, step: int, layer: int, logits: Tensor | None, experts: Tensor, weights: Tensor
    ) -> None:
        """Dispatch one layer's rows and let all ranks compute them."""
        if self._seated.is_exact:
            self._read(step, layer)
        ranks = self._dispatched(layer, experts, weights)
        is_used = (weights != 0).numpy()
        rows = self._rows_of(experts.numpy(), ranks, is_used)
        cost = self._state.run_layer(rows)
        self._learn_truth(cost, rows)
        self._ledger.count(step, rows)
        if logits is not None and not self._seated.is_exact:
            rule = self._stage.traffic.rules[layer]
            self._ledger.judge(step, *gate_quality(rule, logits, experts, weights))
        self._spend(step, layer, cost, rows_between(ranks, is_used, self._num_ranks))
        self._tell(step, layer, rows, cost)
        if layer == self._stage.traffic.num_layers - 1:
            self._end_step(step)

    def _context(self, layer: int, seed: int) -> RoutingContext:
        telemetry = None
        if self._seated.reads_telemetry and self._readings is not None:
            telemetry = self._readings.telemetry(seed)
        return RoutingContext(
            layer=layer,
            rule=self._stage.traffic.rules[layer],
            placement=self._seated.placements[layer],
            telemetry=telemetry,
        )

    def _dispatched(self, layer: int, experts: Tensor, weights: Tensor) -> NDArray[np.int64]:
        found = [
            dispatcher.dispatch(Routing(experts[seed], weights[seed]), self._context(layer, seed))
            for seed, dispatcher in enumerate(self._seated.dispatchers)
        ]
        ranks: NDArray[np.int64] = torch.stack(found).numpy()
        return ranks

    def _rows_of(
        self, experts: NDArray[np.int64], ranks: NDArray[np.int64], is_used: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Return rows, [num_seeds, num_ranks, num_experts]."""
        num_experts = self._stage.traffic.num_experts
        num_seeds, size = len(experts), self._num_ranks * num_experts
        cell = ranks * num_experts + experts + np.arange(num_seeds)[:, None, None] * size
        counted = np.bincount(cell[is_used], minlength=num_seeds * size)
        return counted.reshape(num_seeds, self._num_ranks, num_experts)

    def _spend(self, step: int, layer: int, cost: LayerCost, sent: NDArray[np.int64]) -> None:
        cluster, state = self._stage.cluster, self._state
        dispatch_seconds = cluster.transfer_seconds(sent)
        combine_seconds = cluster.transfer_seconds(sent.transpose(0, 2, 1))
        attention = (state.attention_seconds(), state.attention_watts())
        self._ledger.spend(step, layer, cost, attention, dispatch_seconds + combine_seconds)

    def _tell(self, step: int, layer: int, rows: NDArray[np.int64], cost: LayerCost) -> None:
        if self._channel is None:
            return
        state, worked = self._state, rows.sum(axis=2) > 0
        watts, expected_watts = self._watts_of_work(cost, worked)
        free = self._stage.scene.gpus.free_bytes
        self._channel.put(
            step,
            layer,
            self._now(step, layer),
            Truths(
                die_celsius=state.die_celsius,
                sm_clock_hertz=state.sm_clock_hertz,
                power_watts=watts,
                layer_seconds=np.where(worked, cost.seconds, np.nan),
                expected_layer_seconds=np.where(worked, cost.expected_seconds, np.nan),
                expected_watts=expected_watts,
                free_bytes=np.full(cost.seconds.shape, math.nan if free is None else free),
            ),
        )

    def _now(self, step: int, layer: int) -> float:
        """Return the time of a layer: every simulated step stands for so long of the same."""
        step_seconds = self._stage.scene.gpus.seconds_per_simulated_step
        return step_seconds * (step + layer / self._stage.traffic.num_layers)

    def _read(self, step: int, layer: int) -> None:
        if self._channel is not None:
            self._readings = self._channel.get(step, layer, self._now(step, layer))

    def _learn_truth(self, cost: LayerCost, rows: NDArray[np.int64]) -> None:
        """Show the oracle how slow and how hungry every rank is, now."""
        if not self._seated.knows_truth:
            return
        assert self._seated.adaptation is not None
        worked = rows.sum(axis=2) > 0
        slower = cost.seconds / np.maximum(cost.expected_seconds, 1e-12)
        watts, expected_watts = self._watts_of_work(cost, worked)
        hungrier = watts / expected_watts
        for seed, conditions in enumerate(self._seated.adaptation.conditions):
            conditions.learn(
                slowness=np.where(worked[seed], slower[seed], conditions.slowness.numpy()),
                hunger=np.where(worked[seed], hungrier[seed], conditions.hunger.numpy()),
            )

    def _watts_of_work(
        self, cost: LayerCost, worked: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (watts, expected watts) over those of waiting, [num_seeds, num_ranks]."""
        waiting = self._stage.cluster.physics.waiting_watts
        return (
            _over(cost.watts, self._state.waiting_watts, worked),
            _over(cost.expected_watts, waiting, worked),
        )

    def _end_step(self, step: int) -> None:
        state, seated, ledger = self._state, self._seated, self._ledger
        joules = state.end_step(ledger.seconds[:, step], ledger.busy_seconds, ledger.busy_joules)
        if seated.adaptation is not None and not seated.knows_truth:
            seated.adaptation.observe(
                self._told(),
                measured_seconds=ledger.makespans,
                expected_seconds=ledger.expected_seconds,
                gate_mass_fraction=ledger.gate_mass_fraction[:, step],
            )
            trades = [float(each.trade) for each in seated.adaptation.conditions]
            ledger.learn(
                **{"lambda": np.array(trades)},
                slowness=seated.adaptation.slowness,
                trust=seated.adaptation.trust,
            )
        ledger.end_step(step, joules, state.die_celsius)

    def _told(self) -> Told | None:
        found = self._readings
        if found is None or self._stage.scene.telemetry.kind == "none":
            return None
        return Told(
            layer_seconds=found.layer_seconds,
            expected_layer_seconds=found.expected_layer_seconds,
            power_watts=found.power_watts,
            expected_watts=found.expected_watts,
            age_seconds=found.age_seconds,
        )

    def result(self, losses: NDArray[np.float64] | None) -> PolicyRun:
        """Return the run; `losses`, [num_seeds, num_steps, batch_size], where a model ran."""
        plain = self._stage.plain_losses
        if losses is not None and not plain:
            plain.append(losses)
        if not plain:
            return self._ledger.result(None)
        # Exact ones replay plain top-k's experts, so that their losses are its own.
        return self._ledger.result((plain[0] if losses is None else losses) - plain[0])


def _over(
    watts: NDArray[np.float64], waiting: NDArray[np.float64] | float, worked: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the watts of work over those of waiting, which burn anyway; NaN without work."""
    return np.where(worked, np.maximum(watts - waiting, _LEAST_WATTS), np.nan)
