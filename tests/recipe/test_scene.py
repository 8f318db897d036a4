"""Scenes: the shipped ones, and faults that name their key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moeprof.errors import ExitCode, RecipeError
from moeprof.recipe.load import find_recipe, load_recipe, recipe_names
from moeprof.recipe.load_scene import find_scene, load_scene, scene_names
from moeprof.recipe.load_training import load_training
from moeprof.resources import data_folder, recipes_folder
from moeprof.router.dispatch.registry import load_dispatcher
from moeprof.router.registry import load_router

if TYPE_CHECKING:
    from pathlib import Path

    from moeprof.recipe.load_scene import LoadedScene

GOOD = """
question = "Does it load?"
seed = 3
baseline = "plain"

[model]
layer = "gpt-oss-20b"
weight_dtype = "bf16"

[traffic]
kind = "generated"
num_settling_steps = 4
num_steps = 6
num_layers = 2

[gpus]
specification = "h200-sxm"
num_gpus = 4
speed = [1, 0.85, 1.0, 1]
ambient_celsius = 25
power_limit_watts = 400
changing_rank = 1
changed_speed = 0.9
changed_at_step = 5

[placement]
strategy = "eplb"
num_replicas = 8

[[policies]]
name = "plain"

[[policies]]
name = "narrow"
router = "xshare"
placement = "gem"
settings = [{ num_experts_kept = 8 }, { num_experts_kept = 4, factor = 0.5, is_on = true }]
"""


def write(folder: Path, text: str, name: str = "scene.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, text: str) -> LoadedScene:
    return load_scene(write(folder, text))


def fault(folder: Path, text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load(folder, text)
    assert caught.value.exit_code == ExitCode.INPUT
    assert caught.value.message.startswith(str(folder / "scene.toml"))
    return f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("name", scene_names())
def test_a_shipped_scene_loads_and_asks_one_question(name: str) -> None:
    loaded = load_scene(find_scene(name))

    assert loaded.name == name
    assert loaded.path.parent == recipes_folder() / "route-eval"
    assert loaded.scene.question.endswith("?")
    assert loaded.scene.question.count("?") == 1
    assert loaded.scene.num_seeds == 10


@pytest.mark.parametrize("name", scene_names())
def test_a_shipped_scenes_routers_dispatchers_and_knobs_exist(name: str) -> None:
    for policy in load_scene(find_scene(name)).scene.policies or ():
        # The oracle is the bundled router, shown what no other is.
        names = {"oracle": "marginal-cost"}
        for setting in policy.settings:
            load_router(names.get(policy.router, policy.router), **setting)
        load_dispatcher(names.get(policy.dispatcher, policy.dispatcher))


@pytest.mark.parametrize("name", scene_names())
def test_a_shipped_scene_routes_the_experts_that_it_prices(name: str) -> None:
    loaded = load_scene(find_scene(name))

    if loaded.scene.traffic.kind != "generated":
        assert loaded.scene.traffic.source == "mini-moe"
        assert (loaded.model.layer.num_experts, loaded.model.layer.top_k) == (32, 4)


def test_the_promised_scenes_ship() -> None:
    assert set(scene_names()) == {
        *("one-cold-gpu", "all-equal", "one-slow-gpu", "hot-aisle", "eight-tokens"),
        *("long-context", "power-capped", "four-a100", "one-expert-per-gpu-61-layers"),
    }
    assert not set(scene_names()) & {*recipe_names(), *recipe_names("training")}


def test_the_scenes_are_what_their_names_say() -> None:
    scenes = {name: load_scene(find_scene(name)) for name in scene_names()}

    cold = scenes["one-cold-gpu"].scene
    assert cold.gpus.start_celsius == (90, 90, 90, 0)
    assert cold.gpus.is_held
    assert cold.placement.num_replicas > 0
    equal = scenes["all-equal"].scene
    assert not isinstance(equal.gpus.speed, tuple)
    assert not isinstance(equal.gpus.leakage, tuple)
    assert equal.gpus.start_celsius is None
    assert equal.placement.num_replicas == 0
    slow = scenes["one-slow-gpu"].scene
    assert slow.traffic.kind == "live"
    assert slow.budget.cross_entropy_nats == 0.01
    assert isinstance(slow.gpus.speed, tuple)
    assert sorted(slow.gpus.speed) == [0.85, 1, 1, 1]
    eight = scenes["eight-tokens"].scene
    assert eight.has_constant_compute
    assert eight.traffic.batch_size == 8
    kept = {each.name: each.settings[0] for each in eight.policies or ()}
    assert kept["two-experts"] == {"num_experts_kept": 2, "num_protected": 0}
    assert kept["four-experts"] == {"num_experts_kept": 4, "num_protected": 0}
    full = scenes["long-context"]
    expert_bytes = 2 * full.model.layer.weights_per_expert
    assert full.scene.gpus.free_bytes is not None
    assert full.scene.gpus.free_bytes < expert_bytes
    assert full.model.kv_elements(full.scene.traffic.context_tokens) * 2 == pytest.approx(
        3.2e9, rel=0.01
    )
    assert scenes["four-a100"].gpu.name == "a100-sxm-80gb"
    large = scenes["one-expert-per-gpu-61-layers"]
    assert large.model.num_layers == 61
    assert large.scene.gpus.num_gpus == large.model.layer.num_experts == 256
    assert large.scene.traffic.num_layers == 12


def test_a_scene_is_loaded_with_what_its_names_stand_for(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD)

    assert loaded.name == "scene"
    assert loaded.text == GOOD
    assert loaded.model.name == "gpt-oss-20b"
    assert loaded.gpu.name == "h200-sxm"
    assert loaded.scene.gpus.speed == (1, 0.85, 1, 1)
    policies = loaded.scene.policies
    assert policies is not None
    assert policies[1].settings[1] == {"num_experts_kept": 4, "factor": 0.5, "is_on": True}
    # A count stays one: what takes an expert's number refuses 4.0.
    assert type(policies[1].settings[1]["num_experts_kept"]) is int


def test_seeds_given_replace_the_scenes_own(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)

    assert (load_scene(path).scene.seed, load_scene(path).scene.num_seeds) == (3, 10)
    again = load_scene(path, seed=0, num_seeds=2).scene
    assert (again.seed, again.num_seeds) == (0, 2)


@pytest.mark.parametrize("given", [{"num_seeds": 0}, {"seed": -1}])
def test_an_impossible_seed_given_is_refused(tmp_path: Path, given: dict[str, int]) -> None:
    with pytest.raises(RecipeError, match=f"{next(iter(given))}: must be at least"):
        load_scene(write(tmp_path, GOOD), **given)


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("question =", "qestion =", "qestion: there is no such key; did you mean question?"),
        ('question = "Does it load?"', "", "question: is missing"),
        ("num_steps", "num_step", "traffic.num_step: there is no such key; did you mean num_steps"),
        ("[gpus]", "[gpu]", "gpu: there is no such key; did you mean gpus?"),
        ("seed = 3", "seed = 3\nspeed = 3", "did you mean seed?"),
        ("seed = 3", "seed = 3\nxyz = 3", "xyz: there is no such key; the keys here are baseline,"),
        ("seed = 3", "seed = 3\nnum_gpus = 3", "num_gpus: there is no such key"),
        ("seed = 3", "seed = -3", "seed: must be at least 0, got -3"),
        ("gpt-oss-20b", "gpt-oss-2b", "model.layer: unknown model 'gpt-oss-2b'; did you mean"),
        ("h200-sxm", "h20-sxm", "gpus.specification: unknown GPU 'h20-sxm'; did you mean"),
        ('"bf16"', '"bf61"', "model.weight_dtype must be one of fp32, bf16"),
        ('"generated"', '"genrated"', "traffic.kind: must be"),
        ('"generated"', '"genrated"', "did you mean 'generated'?"),
        ("[1, 0.85, 1.0, 1]", "[1, 0.85, 1]", "gpus.speed must be one number, or 4"),
        ("[1, 0.85, 1.0, 1]", "[]", "gpus.speed must be one number, or 4"),
        ("[1, 0.85, 1.0, 1]", "[1, 0.85, 1.0, 85]", "gpus.speed[3]: must be at most 10, got 85"),
        ("[1, 0.85, 1.0, 1]", '[1, "x", 1.0, 1]', "gpus.speed[1]: must be a number, got 'x'"),
        ("[1, 0.85, 1.0, 1]", "[1, 99, 1.0, 88]", "gpus.speed[1]: must be at most 10, got 99 (and"),
        ("[1, 0.85, 1.0, 1]", '"fast"', "gpus.speed: must be a number or a list, got 'fast'"),
        ("[1, 0.85, 1.0, 1]", "true", "gpus.speed: must be a number or a list, got True"),
        ("[1, 0.85, 1.0, 1]", "99", "gpus.speed: must be at most 10, got 99"),
        ("[1, 0.85, 1.0, 1]", "nan", "gpus.speed: must be a finite number, got nan"),
        ("ambient_celsius = 25", "ambient_celsius = [25, 700, 1, 1]", "ambient_celsius[1]: must"),
        ("power_limit_watts = 400", "power_limit_watts = 0", "watts: must be more than 0"),
        ("power_limit_watts = 400", "power_limit_watts = 800", "at most 700, the limit of h200"),
        ("power_limit_watts = 400", "free_bytes = 999_999_999_999", "free_bytes must be at most"),
        ("num_gpus = 4", "num_gpus = 4\nnum_nodes = 3", "num_nodes must divide gpus.num_gpus 4"),
        ("num_gpus = 4", "num_gpus = 3", "must be one number, or 3"),
        ("changing_rank = 1", "changing_rank = 4", "gpus.changing_rank must lie in 0..3, got 4"),
        ("changing_rank = 1", "", "gpus.changing_rank is missing"),
        ("changed_speed = 0.9", "", "gpus.changed_speed is missing"),
        ("changed_at_step = 5", "changed_at_step = 6", "changed_at_step must lie in 0..5"),
        ("num_layers = 2", "num_layers = 25", "traffic.num_layers must lie in 1..24"),
        ("num_replicas = 8", "num_replicas = 7", "placement eplb: "),
        ("num_replicas = 8", "num_replicas = 7", "num_gpus"),
        ('"eplb"', '"epbl"', "did you mean 'eplb'?"),
        ('"eplb"', '"one-expert-per-gpu"', "placement one-expert-per-gpu: must have 32 ranks"),
        ('"gem"', '"gem"\nnum_replicas = 4', "policies[1] (narrow): placement gem: num_replicas"),
        ('"gem"', '"eplb"\nnum_replicas = 1', "policies[1] (narrow): placement eplb: "),
        ('name = "narrow"', 'name = "plain"', "must not name two policies 'plain'"),
        ('name = "narrow"', "", "policies[1].name: is missing"),
        ("router =", "ruoter =", "policies[1].ruoter: there is no such key; did you mean router?"),
        ("factor = 0.5", "factor = [1]", "settings[1].factor: must be a number, true or false or"),
        ("[{ num_experts_kept = 8 }", "[8", "policies[1].settings[0]: must be a table, got 8"),
        ("settings = [{", "settings = [] #", "policies[1].settings: must not be empty"),
        (
            'baseline = "plain"',
            'baseline = "plane"',
            "baseline must be one of top-k, plain, narrow",
        ),
        ('baseline = "plain"', 'baseline = "plane"', "Did you mean plain?"),
        ("[gpus]", "[gpus", "is not valid TOML"),
    ],
)
def test_a_fault_names_its_key_and_what_would_be_right(
    tmp_path: Path, right: str, wrong: str, said: str
) -> None:
    assert right in GOOD

    words = fault(tmp_path, GOOD.replace(right, wrong, 1))

    assert said in words
    # pydantic's own words for the branches of a union are nobody's key.
    assert "constrained" not in words
    assert "tuple" not in words


def test_one_wrong_value_is_one_fault(tmp_path: Path) -> None:
    for wrong in ('"fast"', "[1, 99, 1, 1]", "99"):
        assert "more)" not in fault(tmp_path, GOOD.replace("[1, 0.85, 1.0, 1]", wrong))
    assert "(and 1 more)" in fault(tmp_path, GOOD.replace("[1, 0.85, 1.0, 1]", "[1, 99, 1, 88]"))
    assert "more)" not in fault(tmp_path, GOOD.replace("factor = 0.5", "factor = [1]"))


def test_an_unknown_key_may_be_called_as_a_type_is(tmp_path: Path) -> None:
    assert "gpus.float: there is no" in fault(tmp_path, GOOD.replace("[gpus]", "[gpus]\nfloat = 1"))


def test_the_plain_policy_need_not_be_named_to_be_the_baseline(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD.replace('"plain"', '"top-k"', 1)).scene.baseline == "top-k"


def test_a_gpu_without_links_needs_their_rates(tmp_path: Path) -> None:
    text = (recipes_folder() / "route-eval" / "one-expert-per-gpu-61-layers.toml").read_text(
        "utf-8"
    )
    rates = [line for line in text.splitlines() if "_bytes_per_second =" in line]
    assert len(rates) == 2

    for rate in rates:
        words = fault(tmp_path, text.replace(rate, ""))

        assert f"links.{rate.split()[0]} is missing; deployment-card has no" in words


def test_paths_are_taken_from_the_scenes_own_folder(tmp_path: Path) -> None:
    for folder, name, old in (
        ("models", "own-model", "gpt-oss-20b"),
        ("gpus", "own-gpu", "h200-sxm"),
    ):
        source = (data_folder() / folder / f"{old}.toml").read_text(encoding="utf-8")
        write(tmp_path, source, f"{name}.toml")
    text = GOOD.replace("gpt-oss-20b", "own-model.toml").replace("h200-sxm", "own-gpu.toml")

    loaded = load(tmp_path, text.replace("[traffic]", '[traffic]\nsource = "own.parquet"'))

    assert (loaded.model.name, loaded.gpu.name) == ("own-model", "own-gpu")
    assert loaded.scene.traffic.source == str(tmp_path / "own.parquet")
    missing = fault(tmp_path, GOOD.replace("gpt-oss-20b", "no-model.toml"))
    assert f"model.layer: {tmp_path / 'no-model.toml'}: no such model file" in missing


def test_a_scene_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    shipped = recipes_folder() / "route-eval" / "all-equal.toml"

    assert find_scene("all-equal") == shipped
    assert find_scene("recipes/route-eval/all-equal.toml").is_file()
    own = write(tmp_path, GOOD)
    assert find_scene(str(own)) == own


def test_a_scene_that_is_not_there_is_answered_with_the_nearest_names() -> None:
    with pytest.raises(RecipeError, match="there is no such scene file") as caught:
        find_scene("one-cold-gpus")

    assert "one-cold-gpu" in (caught.value.hint or "")
    assert "quickstart" not in (caught.value.hint or "")


def test_a_file_of_gates_beside_the_scenes_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "route-eval").mkdir()
    write(tmp_path / "route-eval", GOOD)
    write(tmp_path / "route-eval", '[[gates]]\nname = "latency"\n', "gates.toml")
    monkeypatch.setattr("moeprof.recipe.load.recipes_folder", lambda: tmp_path)

    assert scene_names() == ("scene",)
    with pytest.raises(RecipeError, match="there is no such scene file"):
        find_scene("gates")


@pytest.mark.parametrize(("name", "command"), [("quickstart", "sweep"), ("mini-moe", "train")])
def test_a_recipe_for_another_command_is_no_scene(name: str, command: str) -> None:
    said = f"is a recipe for {command}, and must be one for route-eval"
    with pytest.raises(RecipeError, match=said) as caught:
        load_scene(find_scene(name))

    assert f"moeprof {command} " in (caught.value.hint or "")


def test_a_scene_is_neither_swept_nor_trained() -> None:
    with pytest.raises(RecipeError, match="recipe for route-eval, and must be one for sweep") as e:
        load_recipe(find_recipe("one-cold-gpu"))
    assert "moeprof route-eval" in (e.value.hint or "")
    with pytest.raises(RecipeError, match="recipe for route-eval, and must be one for train"):
        load_training(find_recipe("one-cold-gpu", "training"))


def test_a_scene_that_has_little_yet_is_not_taken_for_training(tmp_path: Path) -> None:
    words = fault(tmp_path, '[model]\nlayer = "gpt-oss-20b"\n')

    assert "question: is missing" in words
