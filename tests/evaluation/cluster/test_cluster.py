"""Claims about the GPUs of a scene."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moeprof.cost.model_file import load_model
from moeprof.cost.thermal import GPUThermal, KernelEffect, Thermal
from moeprof.errors import RecipeError
from moeprof.evaluation.cluster.cluster import Cluster
from moeprof.evaluation.cluster.kernel import kernel_points
from moeprof.recipe.scene import GpuSection, LinkSection, ModelSection, Scene, TrafficSection
from moeprof.record import Interval
from moeprof.resources import data_folder
from moeprof.workload import catalogue
from moeprof.workload.occupancy import occupancy_of_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from moeprof.cost.model import CostModel

LAYER = catalogue.model("qwen3-30b-a3b").layer
HELD = {"start_celsius": 60.0, "is_held": True}
# At 60 C, by h200-sxm.toml and hardware.assumed: idle 57.3, leakage 0.06 x 700, clocking 50.
WAITING_WATTS = 57.3 + 42.0 + 50.0


@cache
def shipped(name: str) -> CostModel:
    return load_model(data_folder() / "models-fitted" / f"{name}.json")


def fitted() -> CostModel:
    return shipped("h200-sxm-vllm-0.24.0")


def scene(specification: str = "h200-sxm", *, context_tokens: int = 64, **gpus: Any) -> Scene:
    return Scene(
        question="What does a GPU do?",
        model=ModelSection(layer="qwen3-30b-a3b"),
        traffic=TrafficSection(batch_size=16, context_tokens=context_tokens, num_settling_steps=2),
        gpus=GpuSection(**{"specification": specification, "num_gpus": 4} | gpus),
    )


def cluster(
    cost: CostModel | None = None, *, num_seeds: int = 2, layer: Any = LAYER, **gpus: Any
) -> Cluster:
    return Cluster.prepare(scene(**gpus), layer, cost, num_seeds=num_seeds)


def some_rows(num_seeds: int = 2, num_ranks: int = 4, mean: float = 1.0) -> NDArray[np.int64]:
    rows = np.random.default_rng(3).poisson(mean, (num_seeds, num_ranks, LAYER.num_experts))
    return rows.astype(np.int64)


def test_without_a_fitted_model_seconds_are_the_datasheets_roofline() -> None:
    rows = np.zeros((1, 4, 128), dtype=np.int64)
    rows[0, 0, :3] = 2
    rows[0, 1, 0] = 100_000

    cost = cluster(num_seeds=1, **HELD).start().run_layer(rows)

    # bf16: 3 x 2048 x 768 weights an expert, 2 x (2048 + 768) elements moved for a row.
    weights = 3 * 2048 * 768
    moving = (3 * weights * 2 + 6 * 2 * 2816 * 2) / (4.8e12 * 0.9)
    computing = 100_000 * 2 * weights / (989e12 * 0.8)
    assert cost.seconds[0, 0] == pytest.approx(8e-6 + moving)
    assert cost.expected_seconds[0, 1] == pytest.approx(8e-6 + computing)


def test_watts_are_idle_leakage_clocking_and_joules_over_time() -> None:
    rows = np.zeros((1, 4, 128), dtype=np.int64)
    rows[0, 0, :3] = 2

    cost = cluster(num_seeds=1, leakage=2.0, **HELD).start().run_layer(rows)

    num_bytes = 3 * 3 * 2048 * 768 * 2 + 6 * 2 * 2816 * 2
    flops = 6 * 2 * 3 * 2048 * 768
    joules = num_bytes * 35e-12 + flops * 700 / (989e12 * 0.8)
    expected = WAITING_WATTS + joules / cost.seconds[0, 0]
    assert cost.expected_watts[0, 0] == pytest.approx(expected)
    assert cost.watts[0, 0] == pytest.approx(expected + 42.0)  # twice the leakage


def test_a_fitted_model_is_what_a_layer_is_expected_to_cost() -> None:
    rows = some_rows() + 1
    point = kernel_points(scene(), LAYER, fitted())
    flat = rows.reshape(-1, 128)
    counted = occupancy_of_rows(np.arange(9) * 128, flat.ravel())
    asked = replace(point.take(np.zeros(8, dtype=np.int64)), occupancy=counted)

    cost = cluster(fitted(), **HELD).start().run_layer(rows)

    predicted = fitted().seconds(asked).value
    np.testing.assert_allclose(cost.expected_seconds.ravel(), predicted, rtol=1e-7)
    np.testing.assert_allclose(cost.seconds, cost.expected_seconds)


def test_fitted_watts_are_kept_at_the_reference_and_leakage_comes_on_top() -> None:
    model = shipped("b200-sxm-vllm-0.22.0")
    rows = some_rows(mean=0.2)
    warm, hot = (
        cluster(model, specification="b200", start_celsius=celsius, is_held=True).start()
        for celsius in (60.0, 80.0)
    )

    at_reference, above = warm.run_layer(rows), hot.run_layer(rows)

    np.testing.assert_allclose(at_reference.watts, at_reference.expected_watts)
    np.testing.assert_allclose(above.expected_watts, at_reference.expected_watts)
    more = 0.06 * 1000 * (np.exp(20 / 36) - 1)
    np.testing.assert_allclose(above.watts, at_reference.watts + more)


def test_a_slow_gpu_takes_longer_and_nobody_expects_it() -> None:
    rows = np.repeat(some_rows(num_ranks=1), 4, axis=1)

    cost = cluster(fitted(), speed=(1.0, 0.85, 1.0, 2.0), **HELD).start().run_layer(rows)

    np.testing.assert_allclose(cost.seconds[:, 1], cost.seconds[:, 0] / 0.85)
    np.testing.assert_allclose(cost.seconds[:, 3], cost.seconds[:, 0] / 2)
    np.testing.assert_array_equal(cost.expected_seconds[:, 1], cost.expected_seconds[:, 0])
    assert (cost.watts[:, 1] < cost.watts[:, 0]).all()  # the same joules over more time


@settings(deadline=None, max_examples=25)
@given(low=st.floats(-20, 120), more=st.floats(0, 60), of=st.sampled_from([None, fitted]))
def test_a_hotter_die_is_never_faster_and_never_leaks_less(
    low: float, more: float, of: Callable[[], CostModel] | None
) -> None:
    cost = None if of is None else of()
    celsius = (low, min(low + more, 150.0), low, low)
    state = cluster(cost, start_celsius=celsius, is_held=True, context_tokens=4096).start()
    rows = np.repeat(some_rows(num_ranks=1), 4, axis=1)

    found = state.run_layer(rows)

    assert (found.seconds[:, 1] >= found.seconds[:, 0]).all()
    assert (found.clock_fraction[:, 1] <= found.clock_fraction[:, 0]).all()
    assert (state.attention_seconds()[:, 1] >= state.attention_seconds()[:, 0]).all()
    leaking = state._cluster.warmth.leakage_watts(state.die_celsius)
    assert (leaking[:, 1] >= leaking[:, 0]).all()
    np.testing.assert_array_equal(found.seconds[:, 2], found.seconds[:, 0])


def test_a_die_above_its_slowdown_temperature_is_throttled_and_says_so() -> None:
    celsius = (60.0, 88.0, 89.0, 120.0)
    state = cluster(fitted(), start_celsius=celsius, is_held=True).start()
    rows = np.repeat(some_rows(num_ranks=1), 4, axis=1)

    cost = state.run_layer(rows)

    np.testing.assert_allclose(cost.clock_fraction[0], [1.0, 0.75, 0.5, 0.4])
    np.testing.assert_array_equal(cost.is_throttled[0], [False, True, True, True])
    assert (np.diff(cost.seconds, axis=1) > 0).all()
    np.testing.assert_array_equal(cost.throttled_seconds[:, 0], 0.0)
    np.testing.assert_array_equal(cost.throttled_seconds[:, 1:], cost.seconds[:, 1:])


def test_a_power_limit_holds_the_clock_of_the_ranks_that_would_pass_it() -> None:
    limits = (700.0, 250.0, 260.0, 1.0)
    rows = np.repeat(some_rows(num_ranks=1, mean=4.0), 4, axis=1)

    cost = cluster(power_limit_watts=limits, **HELD).start().run_layer(rows)

    assert cost.watts[0, 0] > 260
    assert cost.watts[0, 1] == pytest.approx(250, rel=1e-3)
    assert cost.watts[0, 2] == pytest.approx(260, rel=1e-3)
    assert 0.4 < cost.clock_fraction[0, 1] < cost.clock_fraction[0, 2] < 1
    assert cost.clock_fraction[0, 3] == 0.4  # lower than any clock can go
    assert (cost.seconds[0, 1:] > cost.seconds[0, 0]).all()


def test_joules_of_a_step_are_what_ranks_worked_and_waited() -> None:
    state = cluster(**HELD).start()
    busy_seconds = np.array([[0.4, 0.0, 1.0, 0.5]] * 2)
    busy_joules = np.array([[100.0, 0.0, 300.0, 80.0]] * 2)

    joules = state.end_step(np.array([1.0, 2.0]), busy_seconds, busy_joules)

    waited = np.array([0.6 + 1.0 + 0.0 + 0.5, 1.6 + 2.0 + 1.0 + 1.5])
    np.testing.assert_allclose(joules, 480 + waited * WAITING_WATTS)
    np.testing.assert_allclose(joules, (state.power_watts * [[1.0], [2.0]]).sum(axis=1))
    np.testing.assert_array_equal(state.die_celsius, 60.0)


def test_a_rank_without_rows_takes_no_time_and_waits() -> None:
    rows = some_rows()
    rows[:, 2] = 0

    for cost in (None, fitted(), shipped("b200-sxm-vllm-0.22.0")):
        card = "b200" if cost is shipped("b200-sxm-vllm-0.22.0") else "h200-sxm"
        state = cluster(cost, specification=card, **HELD).start()

        found = state.run_layer(rows)

        np.testing.assert_array_equal(found.seconds[:, 2], 0.0)
        np.testing.assert_array_equal(found.expected_seconds[:, 2], 0.0)
        np.testing.assert_allclose(found.watts[:, 2], state.waiting_watts[:, 2])


def test_dies_warm_by_their_own_power_and_reach_the_steady_state() -> None:
    scene_of = {"start_celsius": 28.0, "seconds_per_simulated_step": 100.0}
    prepared = cluster(num_seeds=1, **scene_of)
    state = prepared.start()
    joules = np.array([[0.1, 0.2, 0.3, 0.4]])

    for _ in range(30):
        state.end_step(np.array([1e-3]), np.array([[1e-3] * 4]), joules)

    np.testing.assert_allclose(state.power_watts[0], [100, 200, 300, 400])
    np.testing.assert_allclose(state.die_celsius[0], 28 + joules[0] * 1000 * 50 / 700)


def test_where_no_temperature_is_given_gpus_start_as_warm_as_their_load_keeps_them() -> None:
    prepared = cluster(fitted(), ambient_celsius=(20.0, 28.0, 36.0, 28.0), context_tokens=0)

    assert (prepared.start_celsius > [25, 33, 41, 33]).all()
    assert (prepared.start_celsius < [55, 60, 70, 60]).all()
    assert prepared.start_celsius[0] < prepared.start_celsius[1] < prepared.start_celsius[2]
    rows = np.zeros((1, 4, 128), dtype=np.int64)
    rows[0, 0] = 50
    again = prepared.at_steady_state(rows, np.zeros((1, 4, 4), dtype=np.int64))
    state = again.start()
    cost = state.run_layer(np.repeat(rows, 2, axis=0))
    before = state.die_celsius
    state.end_step(cost.seconds.max(axis=1), cost.seconds, cost.seconds * cost.watts)
    np.testing.assert_allclose(state.die_celsius, before, atol=1e-3)
    assert again.start_celsius[0] > prepared.start_celsius[0] + 5


def test_a_temperature_that_is_given_is_the_start_whatever_the_load() -> None:
    prepared = cluster(start_celsius=(0.0, 90.0, 90.0, 90.0))
    load = some_rows(1), np.zeros((1, 4, 4), dtype=np.int64)

    assert prepared.at_steady_state(*load) is prepared
    np.testing.assert_array_equal(prepared.start().die_celsius, [[0.0, 90.0, 90.0, 90.0]] * 2)


def test_a_rank_changes_its_speed_at_the_step_that_the_scene_says() -> None:
    change = {"changing_rank": 1, "changed_speed": 0.5, "changed_at_step": 3}
    state = cluster(fitted(), **HELD | change).start()
    rows = some_rows()
    took = []

    for _ in range(7):
        cost = state.run_layer(rows)
        took.append(cost.seconds / cost.expected_seconds)
        state.end_step(np.full(2, 1e-3), cost.seconds, cost.seconds * cost.watts)

    # Two settling steps come before step 0.
    np.testing.assert_allclose([each[0, 1] for each in took], [1, 1, 1, 1, 1, 2, 2])
    np.testing.assert_allclose([each[0, 0] for each in took], 1)


def test_two_runs_of_a_cluster_share_nothing() -> None:
    prepared = cluster(start_celsius=30.0)
    first, second = prepared.start(), prepared.start()

    first.end_step(np.full(2, 1e-3), np.full((2, 4), 1e-3), np.full((2, 4), 0.5))

    assert (first.die_celsius > 30.5).all()
    np.testing.assert_array_equal(second.die_celsius, 30.0)
    np.testing.assert_array_equal(prepared.start().die_celsius, 30.0)


def test_seeds_do_not_touch_each_other() -> None:
    rows = some_rows(3)
    together = cluster(fitted(), num_seeds=3, start_celsius=85.0, power_limit_watts=200.0).start()
    alone = cluster(fitted(), num_seeds=1, start_celsius=85.0, power_limit_watts=200.0).start()

    cost, own = together.run_layer(rows), alone.run_layer(rows[1:2])

    np.testing.assert_allclose(cost.seconds[1], own.seconds[0], rtol=1e-12)
    np.testing.assert_allclose(cost.watts[1], own.watts[0], rtol=1e-12)


def test_the_clock_of_a_step_is_the_mean_over_its_layers() -> None:
    state = cluster(power_limit_watts=200.0, **HELD).start()
    few, many = some_rows(mean=0.01), some_rows(mean=30.0)

    clocks = [state.run_layer(rows).clock_fraction for rows in (few, many, many)]
    state.end_step(np.full(2, 1e-3), np.zeros((2, 4)), np.zeros((2, 4)))

    np.testing.assert_allclose(state.sm_clock_hertz, np.mean(clocks, axis=0) * 1.98e9)
    assert (state.sm_clock_hertz < 1.98e9).all()


def test_attention_reads_the_kv_caches_of_a_ranks_own_tokens() -> None:
    # 16 tokens on 3 ranks; 4 KV heads of 128, keys and values, bf16: 2048 bytes a token.
    state = cluster(num_gpus=3, speed=(1.0, 0.5, 1.0), context_tokens=1000, **HELD).start()

    found = state.attention_seconds()

    one = 1000 * 2048 / (4.8e12 * 0.9)
    np.testing.assert_allclose(np.broadcast_to(found, (2, 3)), [[6 * one, 10 * one, 5 * one]] * 2)
    np.testing.assert_allclose(
        state.attention_watts()[0, 0], WAITING_WATTS + 6 * 1000 * 2048 * 35e-12 / found[0, 0]
    )


def test_what_dispatch_sends_is_not_what_the_kv_cache_holds() -> None:
    written = scene(context_tokens=1000, **HELD)
    half = written.model_copy(update={"links": LinkSection(activation_bytes=1.0)})
    bf16, fp8 = (Cluster.prepare(each, LAYER, None, num_seeds=1) for each in (written, half))

    np.testing.assert_array_equal(fp8.attention_bytes, bf16.attention_bytes)
    np.testing.assert_allclose(fp8.links.within, bf16.links.within / 2)


def test_free_memory_holds_replicas_in_every_layer() -> None:
    expert_bytes = 3 * 2048 * 768 * 2  # bf16, in each of 48 layers

    assert cluster(free_bytes=2 * 48 * expert_bytes, **HELD).free_slots() == 2
    assert cluster(free_bytes=2 * 48 * expert_bytes - 1, **HELD).free_slots() == 1
    assert cluster(**HELD).free_slots() is None


def thermal_model() -> CostModel:
    def about(slope: float) -> Interval:
        return Interval(slope, slope * 0.9, slope * 1.1, 0.9)

    kernels = {str(key[0]) for key in fitted().latency.curves.contexts}
    own = GPUThermal(
        gpu="h200-sxm",
        reference_celsius=50.0,
        lowest_celsius=40.0,
        highest_celsius=80.0,
        power_limit_watts=700.0,
        leakage_watts_per_celsius=about(1.5),
        leakage_efold_celsius=None,
        watts_per_celsius=about(1.5),
        sm_clock_hertz_per_celsius=None,
        kernels=tuple(KernelEffect(name, about(2e-3)) for name in sorted(kernels)),
        clock=None,
    )
    return replace(fitted(), thermal=Thermal((own,)))


def test_a_model_that_knows_temperature_is_asked_about_it() -> None:
    prepared = cluster(thermal_model(), start_celsius=(50.0, 70.0, 50.0, 50.0), is_held=True)
    rows = np.repeat(some_rows(num_ranks=1), 4, axis=1)

    cost = prepared.start().run_layer(rows)

    np.testing.assert_allclose(cost.seconds[:, 1], cost.seconds[:, 0] * np.exp(2e-3 * 20))
    leaking = prepared.warmth.leakage_watts(np.array([50.0, 70.0]))
    assert leaking[1] - leaking[0] == pytest.approx(1.5 * 20)
    assert not any("Leakage" in said or "Temperature" in said for said in prepared.emulated)


def test_everything_that_is_not_measured_is_said() -> None:
    bare, rich = cluster(**HELD), cluster(thermal_model(), context_tokens=0, **HELD)

    assert bare.hardware == rich.hardware == "emulated"
    assert any("roofline of the GPU's datasheet" in said for said in bare.emulated)
    assert any("KV cache" in said for said in bare.emulated)
    assert not any("roofline" in said or "KV cache" in said for said in rich.emulated)
    assert any("leakage_watts" in said for said in bare.emulated)
    assert not any("heatsink" in said and "time constants" in said for said in bare.emulated)
    planted = cluster(speed=(1.0, 0.85, 1.0, 1.0), leakage=1.2, **HELD)
    assert {said.split()[0] for said in planted.emulated} >= {"Speeds", "The"}
    assert all(said.endswith(".") and said.count(".") == 1 for said in rich.emulated)


def test_a_trace_may_have_other_experts_than_the_model_that_is_priced() -> None:
    other = replace(LAYER, num_experts=32, top_k=4)
    prepared = cluster(fitted(), layer=other, num_gpus=3, **HELD)

    cost = prepared.start().run_layer(np.ones((2, 3, 32), dtype=np.int64))

    assert cost.seconds.shape == (2, 3)
    assert (cost.seconds > 0).all()


def test_a_cost_model_of_another_gpu_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"^model.device .* got 'l40s'"):
        cluster(fitted(), specification="l40s")


def test_points_of_a_scene_name_its_kernel() -> None:
    point = kernel_points(scene(), LAYER, fitted())

    assert len(point) == 1
    assert point.ep_size.tolist() == [4]
    assert point.gpu.texts() == ["h200-sxm"]
    assert point.weight_dtype.texts() == ["bf16"]
