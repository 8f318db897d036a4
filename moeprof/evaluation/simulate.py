"""One policy's decode in one scene: route, dispatch, compute, wait, combine, warm up, learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from moeprof.evaluation.channel.channel import TelemetryChannel
from moeprof.evaluation.channel.figures import Truths
from moeprof.evaluation.cluster.links import rows_between
from moeprof.evaluation.quality_of_routing import gate_quality
from moeprof.evaluation.runs import PolicyRun
from moeprof.evaluation.stage import plain_routing
from moeprof.gate.rule import Routing
from moeprof.router.adaptation.adaptation import Told
from moeprof.router.protocol import RoutingContext

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from moeprof.evaluation.channel.figures import Readings
    from moeprof.evaluation.cluster.state import LayerCost
    from moeprof.evaluation.seated import Seated
    from moeprof.evaluation.stage import Stage

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
    """The state of one run, and what it leaves."""

    def __init__(self, stage: Stage, seated: Seated) -> None:
        self._stage, self._seated = stage, seated
        traffic, cluster = stage.traffic, stage.cluster
        self._state = cluster.start()
        self._num_ranks = len(cluster.speed)
        shape = (traffic.num_seeds, traffic.num_steps)
        self._seconds, self._joules = np.zeros(shape), np.zeros(shape)
        self._active, self._dropped = np.zeros(shape), np.zeros(shape)
        self._mass, self._changed = np.ones(shape), np.zeros(shape)
        by_rank = (traffic.num_seeds, self._num_ranks)
        self._rows, self._celsius = np.zeros(by_rank), np.zeros(by_rank)
        self._throttled = np.zeros(by_rank)
        self._peak = self._state.die_celsius.max(axis=1).copy()
        self._slowness: list[NDArray[np.float64]] = []
        self._trade: list[NDArray[np.float64]] = []
        self._trusted: list[NDArray[np.float64]] = []
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
        self._begin_step()

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
        self._count(step, layer, logits, experts, weights, rows)
        self._spend(step, layer, rows, cost, rows_between(ranks, is_used, self._num_ranks))
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

    def _count(
        self,
        step: int,
        layer: int,
        logits: Tensor | None,
        experts: Tensor,
        weights: Tensor,
        rows: NDArray[np.int64],
    ) -> None:
        traffic = self._stage.traffic
        self._active[:, step] += (rows > 0).sum(axis=(1, 2)) / traffic.num_layers
        by_rank = rows.sum(axis=2)
        full = traffic.batch_size * traffic.top_k
        self._dropped[:, step] += full - by_rank.sum(axis=1)
        if step >= self._num_settling:
            self._rows += by_rank
        if logits is not None and not self._seated.is_exact:
            mass, changed = gate_quality(traffic.rules[layer], logits, experts, weights)
            self._mass[:, step] += (mass - 1.0) / traffic.num_layers
            self._changed[:, step] += changed / traffic.num_layers

    def _spend(
        self,
        step: int,
        layer: int,
        rows: NDArray[np.int64],
        cost: LayerCost,
        sent: NDArray[np.int64],
    ) -> None:
        cluster, state = self._stage.cluster, self._state
        attention = state.attention_seconds()
        moved = cluster.transfer_seconds(sent)
        moved = moved + cluster.transfer_seconds(sent.transpose(0, 2, 1))
        makespan = cost.seconds.max(axis=1)
        taken = attention.max(axis=1) + moved + makespan + self._seated.layer_seconds
        self._seconds[:, step] += taken
        self._busy_seconds += attention + cost.seconds
        self._busy_joules += attention * state.attention_watts() + cost.seconds * cost.watts
        if step >= self._num_settling:
            self._throttled += cost.throttled_seconds
        self._makespans[:, layer] = makespan
        self._expected[:, layer] = cost.expected_seconds
        if self._channel is not None:
            worked = rows.any(axis=2)
            self._channel.put(
                step,
                layer,
                self._now(step, layer),
                Truths(
                    die_celsius=state.die_celsius,
                    sm_clock_hertz=state.sm_clock_hertz,
                    power_watts=np.where(worked, cost.watts, np.nan),
                    layer_seconds=np.where(worked, cost.seconds, np.nan),
                    expected_layer_seconds=np.where(worked, cost.expected_seconds, np.nan),
                    expected_watts=np.where(worked, cost.expected_watts, np.nan),
                    free_bytes=np.full(cost.seconds.shape, np.nan),
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
        """Show the oracle how slow every rank is, now."""
        if not self._seated.knows_truth:
            return
        assert self._seated.adaptation is not None
        worked = rows.sum(axis=2) > 0
        for seed, conditions in enumerate(self._seated.adaptation.conditions):
            slowness = conditions.slowness.numpy().copy()
            ratio = cost.seconds[seed] / np.maximum(cost.expected_seconds[seed], 1e-12)
            slowness[worked[seed]] = ratio[worked[seed]]
            conditions.learn(slowness=slowness)

    def _end_step(self, step: int) -> None:
        state, seated = self._state, self._seated
        self._joules[:, step] = state.end_step(
            self._seconds[:, step], self._busy_seconds, self._busy_joules
        )
        if step >= self._num_settling:
            self._celsius += state.die_celsius
            self._peak = np.maximum(self._peak, state.die_celsius.max(axis=1))
        if seated.adaptation is not None and not seated.knows_truth:
            seated.adaptation.observe(
                self._told(),
                measured_seconds=self._makespans,
                expected_seconds=self._expected,
                gate_mass_fraction=self._mass[:, step],
            )
            self._slowness.append(seated.adaptation.slowness.copy())
            self._trusted.append(seated.adaptation.trust.copy())
            trades = [float(each.trade) for each in seated.adaptation.conditions]
            self._trade.append(np.array(trades))
        self._begin_step()

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

    def _begin_step(self) -> None:
        by_rank = (self._stage.traffic.num_seeds, self._num_ranks)
        num_layers = self._stage.traffic.num_layers
        self._busy_seconds, self._busy_joules = np.zeros(by_rank), np.zeros(by_rank)
        self._makespans = np.zeros((by_rank[0], num_layers))
        self._expected = np.zeros((by_rank[0], num_layers, by_rank[1]))

    @property
    def _num_settling(self) -> int:
        return self._stage.scene.traffic.num_settling_steps

    def result(self, losses: NDArray[np.float64] | None) -> PolicyRun:
        """Return the run; `losses`, [num_seeds, num_steps, batch_size], where a model ran."""
        stage, seated = self._stage, self._seated
        difference = None
        if losses is not None and not stage.plain_losses:
            stage.plain_losses.append(losses)
        if stage.plain_losses:
            plain = stage.plain_losses[0]
            after = losses if losses is not None else plain
            difference = (after - plain)[:, self._num_settling :]
        kept = slice(self._num_settling, None)
        num_kept = stage.traffic.num_steps - self._num_settling
        curves = {}
        if self._slowness:
            curves = {
                "lambda": np.stack(self._trade, axis=1)[:, kept],
                "slowness": np.stack(self._slowness, axis=1)[:, kept],
                "trust": np.stack(self._trusted, axis=1)[:, kept],
            }
        return PolicyRun(
            policy=seated.name,
            setting=seated.setting,
            claim=seated.claim,
            step_seconds=self._seconds[:, kept],
            step_joules=self._joules[:, kept],
            active_experts=self._active[:, kept],
            gate_mass_fraction=self._mass[:, kept],
            changed_fraction=self._changed[:, kept],
            num_dropped_rows=self._dropped[:, kept],
            loss_difference_nats=difference,
            peak_celsius=self._peak,
            throttled_seconds=self._throttled.sum(axis=1),
            rows_fraction=self._rows / self._rows.sum(axis=1, keepdims=True),
            die_celsius=self._celsius / num_kept,
            router_seconds=seated.layer_seconds * stage.traffic.num_layers,
            curves=curves,
        )
