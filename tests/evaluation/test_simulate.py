"""Claims about the accounts of a run: worked by hand, paired, the same however it comes about."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import torch
from evaluation.scenes import BUNDLED, EXACT, METRO, ORACLE, PLAIN, run, scene_of, shipped, stage_of

from moeprof.evaluation.cluster.cluster import Cluster
from moeprof.evaluation.policies import default_policies
from moeprof.evaluation.seated import Seated, seat
from moeprof.evaluation.simulate import simulate
from moeprof.evaluation.stage import Stage
from moeprof.gate.rule import GateRule, Routing
from moeprof.gate.softmax import SoftmaxRule
from moeprof.recipe.scene import PolicySection
from moeprof.router.dispatch.first import First
from moeprof.router.marginal.curve import EXPERTS_ONLY
from moeprof.workload.layer import MoELayer
from moeprof.workload.placement import place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from moeprof.evaluation.runs import PolicyRun
    from moeprof.evaluation.traffic.protocol import Decide
    from moeprof.router.protocol import RoutingContext
    from moeprof.router.telemetry import Telemetry

TINY = """
question = "What does a step cost?"
num_seeds = 1
[model]
layer = "gpt-oss-20b"
[traffic]
kind = "generated"
batch_size = 2
context_tokens = 1000
num_settling_steps = 1
num_steps = 2
num_layers = 1
[gpus]
specification = "h200-sxm"
num_gpus = 2
speed = [1.0, 0.5]
start_celsius = [50, 80]
[links]
scale_up_seconds = 3e-6
scale_up_bytes_per_second = 1e9
"""
ROW_SECONDS = 2880 * 2 / 1e9  # the model's hidden size in bf16 over the link
CHARGED = 7e-6
LAYER = MoELayer("tiny", 2880, 2880, num_experts=4, top_k=2)
RULE = SoftmaxRule(4, 2, renormalised=True, float32_weights=True)


@dataclass(frozen=True)
class WrittenTraffic:
    """Logits that stand here, [num_steps, num_layers, num_seeds, batch_size, num_experts]."""

    logits: torch.Tensor
    rules: tuple[GateRule, ...] = (RULE,)
    kind: Literal["generated"] = "generated"
    top_k: int = 2

    num_steps = property(lambda self: self.logits.shape[0])
    num_layers = property(lambda self: self.logits.shape[1])
    num_seeds = property(lambda self: self.logits.shape[2])
    batch_size = property(lambda self: self.logits.shape[3])
    num_experts = property(lambda self: self.logits.shape[4])

    def requests(self) -> NDArray[np.int64]:
        return np.zeros((self.num_seeds, self.num_steps, self.batch_size), dtype=np.int64)

    def profile(self) -> NDArray[np.int64]:
        return np.ones((1, self.num_layers, self.num_experts), dtype=np.int64)

    def run(self, decide: Decide) -> None:
        for step, layers in enumerate(self.logits):
            for layer, logits in enumerate(layers):
                decide(step, layer, logits)


class Written:
    """A router whose answers stand here, one for each call."""

    def __init__(self, answers: Sequence[tuple[list[list[int]], list[list[float]]]]) -> None:
        self._answers = iter(answers)

    def route(self, logits: torch.Tensor, context: object) -> Routing:
        experts, weights = next(self._answers)
        return Routing(torch.tensor(experts), torch.tensor(weights))


EVEN = [[0.5, 0.5], [0.5, 0.5]]
# By step: experts and weights of two tokens. Token 0 lives on rank 0 and token 1 on rank 1;
# experts 0 and 1 sit on rank 0, 2 and 3 on rank 1.
SETTLING = ([[0, 1], [2, 3]], EVEN)
FULL = ([[0, 1], [0, 2]], EVEN)
DROPPED = ([[0, 0], [2, 0]], [[1.0, 0.0], [1.0, 0.0]])
# Rows by rank and expert, and rows sent from rank to rank.
ROWS = {
    "settling": ([[1, 1, 0, 0], [0, 0, 1, 1]], [[1, 0], [0, 1]]),
    "full": ([[2, 1, 0, 0], [0, 0, 1, 0]], [[1, 0], [1, 1]]),
    "dropped": ([[1, 0, 0, 0], [0, 0, 1, 0]], [[1, 0], [0, 1]]),
}


def tiny(text: str = TINY, *, logits: torch.Tensor | None = None) -> Stage:
    loaded = scene_of(text)
    if logits is None:
        logits = torch.randn(3, 1, 1, 2, 4, generator=torch.Generator().manual_seed(0))
    traffic = WrittenTraffic(logits)
    return Stage(
        loaded=loaded,
        traffic=traffic,
        cluster=Cluster.prepare(loaded.scene, LAYER, None, num_seeds=1),
        curve=EXPERTS_ONLY,
        profile=traffic.profile(),
        telemetry_seconds=0.0,
    )


def seated(stage: Stage, answers: Sequence[Any], **given: Any) -> Seated:
    ranks = place("contiguous", num_experts=4, num_ranks=2, seed=0)
    plain = Seated(
        name="written",
        setting={},
        claim="re-routed",
        routers=(Written(answers),),
        dispatchers=(First(),),
        placements=(ranks,),
        adaptation=None,
        knows_truth=False,
        reads_telemetry=False,
        layer_seconds=CHARGED,
    )
    return replace(plain, **given)


def by_hand(cluster: Cluster, steps: Sequence[str]) -> tuple[list[float], list[float]]:
    """Seconds and joules of steps of one layer, with the cluster's own functions only."""
    state = cluster.start()
    seconds, joules = [], []
    for step in steps:
        rows, sent = (np.array([each]) for each in ROWS[step])
        cost = state.run_layer(rows)
        attention, watts = state.attention_seconds(), state.attention_watts()
        dispatch = cluster.transfer_seconds(sent)
        combine = cluster.transfer_seconds(sent.transpose(0, 2, 1))
        taken = CHARGED + attention.max() + dispatch + cost.seconds.max() + combine
        busy = attention + cost.seconds
        spent = attention * watts + cost.seconds * cost.watts
        seconds.append(float(taken[0]))
        joules.append(float(state.end_step(taken, busy, spent)[0]))
    return seconds, joules


def assert_same(one: PolicyRun, other: PolicyRun) -> None:
    for field in fields(one):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if field.name == "curves":
            assert left.keys() == right.keys()
            for name in left:
                np.testing.assert_array_equal(left[name], right[name], strict=True)
        elif isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right, strict=True, err_msg=field.name)
        else:
            assert left == right, field.name


def test_latency_and_energy_are_what_the_clusters_own_functions_make_step_by_step() -> None:
    stage = tiny()
    found = simulate(stage, seated(stage, [SETTLING, FULL, DROPPED]))

    seconds, joules = by_hand(stage.cluster, ["settling", "full", "dropped"])
    np.testing.assert_allclose(found.step_seconds, [seconds[1:]], rtol=1e-12)
    np.testing.assert_allclose(found.step_joules, [joules[1:]], rtol=1e-12)
    assert found.router_seconds == CHARGED


def test_only_what_leaves_its_rank_is_sent_and_slots_of_weight_0_are_not() -> None:
    stage = tiny()
    found = simulate(stage, seated(stage, [SETTLING, FULL, DROPPED]))
    state = stage.cluster.start()
    state.end_step(np.ones(1), np.zeros((1, 2)), np.zeros((1, 2)))  # attention is not warmer
    rows_full, rows_dropped = (np.array([ROWS[step][0]]) for step in ("full", "dropped"))

    # The slow rank takes twice as long, and its experts and KV cache are those of both.
    attention = state.attention_seconds().max()
    full = state.run_layer(rows_full).seconds.max()
    dropped = state.run_layer(rows_dropped).seconds.max()

    links = found.step_seconds[0] - CHARGED - attention - [full, dropped]
    np.testing.assert_allclose(links[0], 2 * (3e-6 + ROW_SECONDS), rtol=1e-6)
    # Token 1's expert 0 has weight 0: its row would have gone to rank 0 and back.
    assert abs(links[1]) < 1e-12


def test_rows_experts_and_quality_are_counted_without_settling_steps() -> None:
    # Scores 0.4, 0.3, 0.2 and 0.1 of all: plain top-k uses experts 0 and 1.
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log().expand(3, 1, 1, 2, 4)
    stage = tiny(logits=logits)
    found = simulate(stage, seated(stage, [SETTLING, FULL, DROPPED]))

    np.testing.assert_array_equal(found.num_dropped_rows, [[0, 2]])
    np.testing.assert_array_equal(found.active_experts, [[3, 2]])
    np.testing.assert_allclose(found.rows_fraction, [[4 / 6, 2 / 6]])
    # Token 1 keeps 0.4 + 0.2 of 0.7; then both keep one expert of score 0.4 and 0.2.
    full, dropped = (1 + 0.6 / 0.7) / 2, (0.4 / 0.7 + 0.2 / 0.7) / 2
    np.testing.assert_allclose(found.gate_mass_fraction, [[full, dropped]], rtol=1e-6)
    np.testing.assert_allclose(found.changed_fraction, [[0.25, 0.75]], rtol=1e-6)
    assert found.loss_difference_nats is None


def test_what_happens_in_settling_steps_shows_in_temperatures_only() -> None:
    held = TINY.replace("start_celsius", "is_held = true\nstart_celsius")
    runs = []
    for settling in (SETTLING, DROPPED):
        stage = tiny(held)
        runs.append(simulate(stage, seated(stage, [settling, FULL, FULL])))

    assert_same(*runs)


def test_the_peak_is_of_the_steps_that_count() -> None:
    # A rank that starts hot and works little cools down before the first step that counts.
    text = TINY.replace("[50, 80]", "[50, 84]").replace("_steps = 1", "_steps = 400")
    stage = tiny(text, logits=torch.zeros(402, 1, 1, 2, 4))
    stage = replace(stage, loaded=scene_of(text + "\n"))
    found = simulate(stage, seated(stage, [SETTLING] * 402))

    assert found.peak_celsius[0] < 80
    assert found.peak_celsius[0] >= found.die_celsius.max()


@pytest.fixture(scope="module")
def recorded() -> Stage:
    return stage_of(
        shipped(
            "one-slow-gpu",
            num_seeds=2,
            traffic={"kind": "recorded", "num_settling_steps": 1, "num_steps": 5},
        )
    )


@pytest.mark.parametrize(
    "dispatcher", ["first", "random", "round-robin", "least-loaded", "metro", "marginal-cost"]
)
def test_an_exact_policy_routes_as_top_k_does_whatever_dispatches(
    recorded: Stage, dispatcher: str
) -> None:
    plain = run(recorded)
    found = run(recorded, PolicySection(name="it", dispatcher=dispatcher))

    assert found.claim == "exact"
    np.testing.assert_array_equal(found.gate_mass_fraction, 1.0)
    np.testing.assert_array_equal(found.changed_fraction, 0.0)
    np.testing.assert_array_equal(found.num_dropped_rows, 0.0)
    # Replicas may be used side by side, so that more experts are active, but never fewer.
    assert (found.active_experts >= plain.active_experts).all()
    if dispatcher == "marginal-cost":
        np.testing.assert_array_equal(found.active_experts, plain.active_experts)


def test_lambda_0_is_top_k(recorded: Stage) -> None:
    plain, exact = run(recorded), run(recorded, EXACT)
    found = run(recorded, BUNDLED, {"lambda_": 0.0})

    np.testing.assert_array_equal(found.gate_mass_fraction, 1.0)
    np.testing.assert_array_equal(found.changed_fraction, 0.0)
    np.testing.assert_array_equal(found.active_experts, plain.active_experts)
    np.testing.assert_array_equal(found.step_seconds, exact.step_seconds)


def test_runs_are_the_same_bit_for_bit_again_and_in_another_order(recorded: Stage) -> None:
    policies = (
        (EXACT, {}),
        (BUNDLED, {"lambda_": 0.25}),
        (ORACLE, {"lambda_": 0.25}),
        (METRO, {}),
        (PolicySection(name="random", router="random", dispatcher="random"), {}),
    )
    first = [run(recorded, policy, setting) for policy, setting in policies]
    again = [run(recorded, policy, setting) for policy, setting in reversed(policies)]
    elsewhere = stage_of(recorded.loaded)
    alone = [run(elsewhere, policy, setting) for policy, setting in policies[::-1]]

    for one, other, another in zip(first, reversed(again), reversed(alone), strict=True):
        assert_same(one, other)
        assert_same(one, another)


def test_a_seed_alone_is_what_it_is_among_others(recorded: Stage) -> None:
    alone = stage_of(
        replace(recorded.loaded, scene=recorded.scene.model_copy(update={"num_seeds": 1}))
    )
    together, single = (run(stage, BUNDLED, {"lambda_": 0.25}) for stage in (recorded, alone))

    np.testing.assert_array_equal(together.step_seconds[:1], single.step_seconds)
    np.testing.assert_array_equal(together.rows_fraction[:1], single.rows_fraction)


def test_every_policy_that_every_scene_has_runs(recorded: Stage) -> None:
    for policy in default_policies(32, 4):
        if policy.router == "sere":
            continue  # needs the model: see test_sere_similarity
        found = run(recorded, policy, policy.settings[-1])

        assert np.isfinite(found.step_seconds).all(), policy.name
        assert (found.step_seconds > 0).all()
        assert (found.step_joules > 0).all()
        np.testing.assert_allclose(found.rows_fraction.sum(axis=1), 1.0)
        assert (found.num_dropped_rows >= 0).all()


def test_live_losses_of_exact_policies_are_plain_top_ks_own() -> None:
    pytest.importorskip("transformers")
    live = stage_of(
        shipped(
            "one-slow-gpu",
            num_seeds=2,
            traffic={"num_settling_steps": 1, "num_steps": 3, "batch_size": 4},
        )
    )
    for policy, setting in ((EXACT, {}), (METRO, {}), (BUNDLED, {"lambda_": 0.0})):
        found = run(live, policy, setting)
        np.testing.assert_array_equal(found.loss_difference_nats, np.zeros((2, 3, 4)))

    changed = run(live, BUNDLED, {"lambda_": 5.0})
    assert changed.loss_difference_nats is not None
    # What a step changes reaches its own tokens at once: 4 layers follow one another.
    assert (changed.loss_difference_nats != 0).any()
    assert changed.gate_mass_fraction.max() < 1


def test_the_first_run_need_not_be_seated_twice(recorded: Stage) -> None:
    fresh = Stage(
        loaded=recorded.loaded,
        traffic=recorded.traffic,
        cluster=recorded.cluster,
        curve=recorded.curve,
        profile=recorded.profile,
        telemetry_seconds=recorded.telemetry_seconds,
    )

    shown = simulate(fresh, seat(fresh, PLAIN, {}))  # routes, and is kept
    replayed = simulate(fresh, seat(fresh, PLAIN, {}))

    assert len(fresh.plain) == 6 * recorded.traffic.num_layers
    assert_same(shown, replayed)


@pytest.mark.parametrize("step_seconds", [0.25, 60.0])
def test_a_slow_gpu_is_found_however_long_a_simulated_step_stands_for(step_seconds: float) -> None:
    gpus = {"speed": (1.0, 0.7, 1.0, 1.0), "seconds_per_simulated_step": step_seconds}
    telemetry = {"age_layers": 2}
    small = {"kind": "generated", "batch_size": 8, "num_steps": 4, "num_layers": 2}
    loaded = shipped("all-equal", num_seeds=1, gpus=gpus, telemetry=telemetry, traffic=small)
    found = run(stage_of(loaded), EXACT).curves["slowness"][0, -1]

    assert found[1] == pytest.approx(1 / 0.7, rel=0.05)
    np.testing.assert_array_equal(np.delete(found, 1), 1.0)


def test_the_oracle_sees_who_is_slow_and_who_draws_more_for_its_work() -> None:
    gpus = {"start_celsius": (60.0, 60.0, 60.0, 95.0), "is_held": True}
    small = {"kind": "generated", "batch_size": 8, "num_steps": 2, "num_layers": 2}
    stage = stage_of(shipped("all-equal", num_seeds=1, gpus=gpus, traffic=small))
    seated = seat(stage, ORACLE, {"lambda_": 0.1})
    simulate(stage, seated)
    assert seated.adaptation is not None
    (conditions,) = seated.adaptation.conditions

    assert conditions.slowness[3] > 1.1
    assert conditions.hunger[3] < 0.99  # its clock is held down, so that its work draws less
    np.testing.assert_allclose(conditions.slowness[:3], 1.0, rtol=1e-9)
    np.testing.assert_allclose(conditions.hunger[:3], 1.0, rtol=1e-9)


class Listener:
    """Routes as the model does, and keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[Telemetry | None] = []

    def route(self, logits: torch.Tensor, context: RoutingContext) -> Routing:
        self.told.append(context.telemetry)
        return context.rule.choose(logits)


def test_a_router_that_reads_telemetry_is_told_of_every_gpu_and_of_its_memory() -> None:
    gpus = {"free_bytes": 10**10, "speed": (1.0, 0.7, 1.0, 1.0)}
    small = {"kind": "generated", "batch_size": 8, "num_steps": 3, "num_layers": 2}
    stage = stage_of(shipped("all-equal", num_seeds=1, gpus=gpus, traffic=small))
    simulate(stage, seat(stage, PLAIN, {}))
    listener = Listener()
    rerouted = PolicySection(name="listener", router="oea")
    seated = replace(seat(stage, rerouted, {}), routers=(listener,), reads_telemetry=True)
    simulate(stage, seated)
    last = listener.told[-1]

    assert last is not None
    assert [reading.free_bytes for reading in last.readings] == [10**10] * 4
    slow, quick = last.of_rank(1), last.of_rank(0)
    assert slow is not None
    assert quick is not None
    assert slow.layer_seconds > 1.2 * slow.expected_layer_seconds > 0
    assert quick.layer_seconds < 1.2 * quick.expected_layer_seconds
