"""Training recipes: the shipped ones, and faults that name their key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moeprof.errors import RecipeError
from moeprof.recipe.load import find_recipe, load_recipe, recipe_names
from moeprof.recipe.load_training import load_training

if TYPE_CHECKING:
    from pathlib import Path

MINIMAL = 'name = "x"\n[model]\n'


def load(folder: Path, text: str) -> object:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return load_training(path)


@pytest.mark.parametrize("name", recipe_names("training"))
def test_a_shipped_training_recipe_is_valid(name: str) -> None:
    assert load_training(find_recipe(name, "training")).recipe.name == name


def test_the_promised_training_recipes_ship() -> None:
    assert {"mini-moe", "router-losses"} <= set(recipe_names("training"))
    assert not set(recipe_names("training")) & set(recipe_names("sweep"))


def test_the_study_compares_every_loss_with_none_under_three_seeds() -> None:
    recipe = load_training(find_recipe("router-losses", "training")).recipe

    used = {loss.name for variant in recipe.variants for loss in variant.losses}
    assert used == {"switch", "deviation", "entropy", "kl-uniform", "z-loss"}
    assert any(not each.losses and each.gate == type(each.gate)() for each in recipe.variants)
    assert any(variant.gate.softmax_temperature != 1 for variant in recipe.variants)
    assert any(variant.gate.bias_update_speed for variant in recipe.variants)
    assert recipe.num_seeds >= 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "x"\n', "one of the sections model .* and upcycle .*, got neither"),
        (MINIMAL + "[upcycle]\n", "got both"),
        (MINIMAL + "hiden_size = 8\n", r"model\.hiden_size: .* did you mean hidden_size\?"),
        (MINIMAL + "num_experts = 4\ntop_k = 5\n", r"model\.top_k: must be at most num_experts 4"),
        (MINIMAL + "top_k = 17\n", r"model\.top_k: must be at most num_experts 16, got 17"),
        (MINIMAL + "hidden_size = 100\nnum_heads = 3\n", "hidden_size must be a multiple of"),
        (MINIMAL + "num_key_value_heads = 3\n", "num_heads must be a multiple of"),
        (MINIMAL + 'family = "mixtrall"\n', r"model\.family: .* did you mean 'mixtral'\?"),
        (MINIMAL + 'family = "mixtral"\ntop_k = 1\n', "mixtral's gate learns nothing"),
        (
            MINIMAL + '[[losses]]\nname = "swich"\nweight = 1\n',
            r"losses\[0\]\.name: .* did you mean 'switch'\?",
        ),
        (MINIMAL + '[[losses]]\nname = "switch"\n', r"losses\[0\]\.weight: is missing"),
        (
            MINIMAL + '[[losses]]\nname = "switch"\nweight = -1\n',
            r"losses\[0\]\.weight: must be at least 0, got -1",
        ),
        (
            MINIMAL + '[[losses]]\nname = "switch"\nweight = 1\n' * 2,
            "losses must differ in name, got 'switch' twice",
        ),
        (MINIMAL + "[optimiser]\nnum_steps = 10\n", "num_warm_up_steps must be less than"),
        (MINIMAL + "[gate]\nsoftmax_temperature = 0\n", "softmax_temperature: must be more than 0"),
        (MINIMAL + "[text]\ntest_fraction = 0.5\n", r"text\.test_fraction: must be less than 0\.5"),
        ('name = "x"\nnum_seeds = 3\n[model]\n', "num_seeds belongs to a study"),
        (
            MINIMAL + '[[variants]]\nname = "a"\n[[losses]]\nname = "switch"\nweight = 1\n',
            "losses and gate belong to each of the variants",
        ),
        (MINIMAL + '[[variants]]\nname = "a"\n' * 2, "variants must differ in name"),
        (MINIMAL + '[[variants]]\nname = "../a"\n', r"variants\[0\]\.name"),
        (
            f"seed = {2**63 - 1}\nnum_seeds = 3\n" + MINIMAL + '[[variants]]\nname = "a"\n',
            "seed must leave room below",
        ),
    ],
)
def test_a_fault_names_its_key_and_what_would_be_right(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        load(tmp_path, text)

    assert "recipe.toml: " in caught.value.message


def test_the_seed_of_the_command_line_replaces_the_recipes(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(MINIMAL, encoding="utf-8")

    assert load_training(path, seed=7).recipe.seed == 7


def test_a_sweeps_recipe_is_not_trained() -> None:
    with pytest.raises(RecipeError, match="is a recipe for sweep, and must be one for train") as e:
        load_training(find_recipe("quickstart"))

    assert "moeprof sweep" in (e.value.hint or "")


def test_a_training_recipe_is_not_swept() -> None:
    with pytest.raises(RecipeError, match="is a recipe for train, and must be one for sweep") as e:
        load_recipe(find_recipe("mini-moe"))

    assert "moeprof train" in (e.value.hint or "")


def test_the_nearest_recipe_of_the_same_kind_is_named() -> None:
    with pytest.raises(RecipeError) as caught:
        find_recipe("mini-mo", "training")

    assert "mini-moe" in (caught.value.hint or "")
