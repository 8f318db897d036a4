"""Claims about policies seated in a scene: what they claim, are charged, may know, and refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from evaluation.scenes import BUNDLED, EXACT, METRO, ORACLE, PLAIN, changed, scene_of

from moeprof.errors import RecipeError
from moeprof.evaluation.seated import seat
from moeprof.evaluation.stage import set_stage
from moeprof.recipe.scene import PolicySection

if TYPE_CHECKING:
    from moeprof.evaluation.stage import Stage

TEXT = """
question = "Who sits where?"
num_seeds = 2
router_seconds = 2e-5
[model]
layer = "gpt-oss-20b"
[traffic]
kind = "generated"
batch_size = 4
num_settling_steps = 1
num_steps = 2
num_layers = 2
[gpus]
specification = "h200-sxm"
num_gpus = 4
[links]
scale_up_bytes_per_second = 1e9
[placement]
strategy = "eplb"
num_replicas = 8
[telemetry]
transport = "message"
"""
TOLD_SECONDS = 5e-6 + 3 * 32 / 1e9  # a message to each of the three others


@pytest.fixture(scope="module")
def stage() -> Stage:
    return set_stage(scene_of(TEXT), None)


@pytest.mark.parametrize(
    ("policy", "setting", "charged", "claim"),
    [
        (PLAIN, {}, 0.0, "exact"),
        (PolicySection(name="gem", placement="gem"), {}, 0.0, "exact"),
        (METRO, {}, 2e-5, "exact"),
        (EXACT, {}, 2e-5 + TOLD_SECONDS, "exact"),
        (PolicySection(name="dealt", dispatcher="round-robin"), {}, 2e-5, "exact"),
        # Each token by itself: the batch is not looked at.
        (PolicySection(name="drawn", dispatcher="random"), {}, 0.0, "exact"),
        (PolicySection(name="random", router="random"), {}, 0.0, "re-routed"),
        (PolicySection(name="penalty", router="logit-penalty"), {}, 0.0, "re-routed"),
        (PolicySection(name="oea", router="oea"), {"base_k": 2}, 2e-5, "re-routed"),
        (BUNDLED, {"lambda_": 0.1}, 2e-5 + TOLD_SECONDS, "re-routed"),
        (ORACLE, {"lambda_": 0.1}, 2e-5, "re-routed"),  # it sees without being told
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_who_decides_is_charged_and_so_is_what_it_is_told(
    stage: Stage, policy: PolicySection, setting: dict[str, Any], charged: float, claim: str
) -> None:
    found = seat(stage, policy, setting)

    assert found.layer_seconds == pytest.approx(charged, rel=1e-12)
    assert found.claim == claim
    assert len(found.routers) == len(found.dispatchers) == 2
    assert len(found.placements) == 2


def test_without_replicas_a_dispatcher_has_nothing_to_decide(stage: Stage) -> None:
    bare = changed(stage.loaded, placement={"num_replicas": 0})
    found = seat(set_stage(bare, None), EXACT, {})

    assert found.layer_seconds == 0.0


def test_only_the_oracle_knows_the_truth(stage: Stage) -> None:
    assert seat(stage, ORACLE, {"lambda_": 0.1}).knows_truth
    assert not seat(stage, BUNDLED, {"lambda_": 0.1}).knows_truth
    assert seat(stage, METRO, {}).adaptation is None


def test_lambda_is_each_seeds_own_and_a_budget_moves_it(stage: Stage) -> None:
    fixed = seat(stage, BUNDLED, {"lambda_": 0.3}).adaptation
    held = seat(stage, BUNDLED, {"gate_mass_fraction": 0.97}).adaptation
    assert fixed is not None
    assert held is not None

    assert [float(each.trade) for each in fixed.conditions] == [0.3, 0.3]
    assert float(held.conditions[0].trade) > 0
    assert held.conditions[0].trade is not held.conditions[1].trade


@pytest.mark.parametrize(
    ("policy", "setting", "words"),
    [
        (PLAIN, {"lambda_": 0.1}, "has no knob lambda_"),
        (METRO, {"base_k": 2}, "has no knob base_k"),
        (EXACT, {"lambda_": 0.1}, "has no knob lambda_"),
        (EXACT, {"energy_fraction": 2.0}, r"energy_fraction must lie in 0.0..1.0, got 2.0"),
        (EXACT, {"energy_fraction": "all"}, "energy_fraction must be a number, got 'all'"),
        (BUNDLED, {"lambda": 0.1}, "has no knob lambda; did you mean lambda_"),
        (BUNDLED, {"lambda_": -1.0}, "lambda_ must be at least 0"),
        (BUNDLED, {"lambda_": "much"}, "lambda_ must be a number, got 'much'"),
        (BUNDLED, {"gate_mass_fraction": 1.5}, "gate_mass_fraction must lie in 0.0..1.0"),
        (PolicySection(name="oea", router="oea"), {"gate_mass_fraction": 0.9}, "no knob gate_mass"),
        (BUNDLED, {"curve": 1}, "curve is not for a scene to set"),
        (PolicySection(name="x", router="logit-penalty"), {"costs": 1}, "costs is not for a scene"),
        (PolicySection(name="x", router="oae"), {}, "router 'oae' is not known; did you mean oea"),
        (PolicySection(name="x", dispatcher="metr"), {}, "did you mean metro"),
    ],
)
def test_a_knob_or_name_that_is_not_is_refused_with_the_scenes_path(
    stage: Stage, policy: PolicySection, setting: dict[str, Any], words: str
) -> None:
    with pytest.raises(RecipeError, match=words) as raised:
        seat(stage, policy, setting)

    assert raised.value.message.startswith(f"small.toml: policy {policy.name!r}: ")


def test_the_dispatcher_alone_has_a_share_of_energy(stage: Stage) -> None:
    assert seat(stage, EXACT, {"energy_fraction": 0.5}).setting == {"energy_fraction": 0.5}
