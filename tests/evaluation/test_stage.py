"""Claims about a scene made ready: where experts sit, and how a step grows with what is active."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from evaluation.scenes import changed, scene_of

from moeprof.evaluation.stage import plain_routing, profiled_speed, set_stage, shipped_cost
from moeprof.recipe.scene import PolicySection
from moeprof.workload.gem import gem_placement
from moeprof.workload.placement import place

if TYPE_CHECKING:
    from moeprof.evaluation.stage import Stage

TEXT = """
question = "What stands ready?"
seed = 3
num_seeds = 2
[model]
layer = "gpt-oss-20b"
weight_dtype = "bf16"
[traffic]
kind = "recorded"
batch_size = 8
num_settling_steps = 1
num_steps = 2
num_layers = 2
[gpus]
specification = "h200-sxm"
num_gpus = 4
speed = [1.0, 1.0, 0.5, 1.0]
[placement]
strategy = "eplb"
num_replicas = 8
"""


def policy(**given: object) -> PolicySection:
    return PolicySection.model_validate({"name": "it", **given})


@pytest.fixture(scope="module")
def stage() -> Stage:
    return set_stage(scene_of(TEXT), shipped_cost("h200-sxm"))


def test_replicas_are_of_the_experts_that_were_hot_before_the_first_step(stage: Stage) -> None:
    for layer, found in enumerate(stage.placements(policy())):
        loads = stage.profile[:, layer].sum(axis=0).astype(float)
        assert found == place(
            "eplb", num_experts=32, num_ranks=4, seed=3 + layer, loads=loads, num_replicas=8
        )
        slots = [expert for rank in found.ranks for expert in rank]
        doubled = {expert for expert in slots if slots.count(expert) > 1}
        assert loads.argmax() in doubled


def test_a_policy_may_have_its_own_placement(stage: Stage) -> None:
    single, contiguous = (
        stage.placements(policy(placement="eplb", num_replicas=0)),
        stage.placements(policy(placement="contiguous", num_replicas=0)),
    )

    assert all(sum(map(len, each.ranks)) == 32 for each in single)
    assert contiguous[0].ranks[0] == tuple(range(8))


def test_gem_knows_the_speeds_and_gives_the_slow_rank_less(stage: Stage) -> None:
    found = stage.placements(policy(placement="gem"))

    for layer, each in enumerate(found):
        rows = stage.profile[:, layer]
        loads = (rows > 0) + stage.curve.row_experts * rows
        assert each == gem_placement(loads[:64], np.array([1.0, 1.0, 0.5, 1.0]))
        by_rank = [loads[:, list(rank)].sum() for rank in each.ranks]
        assert by_rank[2] < 0.9 * min(by_rank[:2] + by_rank[3:])  # of as many experts


def test_gem_is_shown_gpus_that_heat_slows_down_too() -> None:
    hot = {"speed": 1.0, "start_celsius": (90.0, 40.0, 40.0, 40.0), "is_held": True}
    stage = set_stage(changed(scene_of(TEXT), gpus=hot), shipped_cost("h200-sxm"))
    speeds = profiled_speed(stage.cluster, stage.traffic)

    assert 0.8 < speeds[0] < 0.95
    np.testing.assert_array_equal(speeds[1:], 1.0)
    (placement, _) = stage.placements(policy(placement="gem"))
    loads = (stage.profile[:64, 0] > 0) + stage.curve.row_experts * stage.profile[:64, 0]
    assert placement == gem_placement(loads, speeds)


def test_replicas_that_memory_has_no_room_for_are_left_out(stage: Stage) -> None:
    slot_bytes = 3 * 2880**2 * 2 * 24  # an expert in every MoE layer of the model
    one = set_stage(changed(stage.loaded, gpus={"free_bytes": int(slot_bytes * 1.5)}), None)
    none = set_stage(changed(stage.loaded, gpus={"free_bytes": slot_bytes - 1}), None)

    assert sum(map(len, one.placements(policy())[0].ranks)) == 32 + 4
    assert sum(map(len, none.placements(policy())[0].ranks)) == 32


def test_the_curve_is_a_line_of_the_models_seconds(stage: Stage) -> None:
    rows = np.zeros((8, 4, 32), dtype=np.int64)
    for count in range(8):
        rows[count, 0, : count + 1] = 1  # 8 tokens of 4 experts each over 32 experts
    seconds = stage.cluster.reference.at(rows).seconds[:, 0]
    slope, start = np.polyfit(np.arange(1, 9), seconds, 1)

    assert stage.curve.launch_experts == pytest.approx(max(0.0, start / slope))
    assert stage.curve.row_experts >= 0
    assert stage.curve.static_experts > 0


def test_what_fits_a_gpu_is_found_by_its_name() -> None:
    found = shipped_cost("h200-sxm")

    assert found is not None
    assert shipped_cost("no-such-gpu") is None


def test_plain_routing_is_the_gates_own_for_all_seeds_at_once(stage: Stage) -> None:
    logits = torch.randn(2, 8, 32, generator=torch.Generator().manual_seed(0))
    experts, weights = plain_routing(stage.traffic, 1, logits)

    for seed in range(2):
        plain = stage.traffic.rules[1].choose(logits[seed])
        assert torch.equal(experts[seed], plain.experts)
        assert torch.equal(weights[seed], plain.weights.float())
