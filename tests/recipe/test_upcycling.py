from __future__ import annotations

import pytest
from pydantic import ValidationError

from moeprof.errors import RecipeError
from moeprof.recipe.load import find_recipe
from moeprof.recipe.load_training import load_training
from moeprof.recipe.upcycling import UpcycleSection


def test_layers_are_all_or_those_that_are_named() -> None:
    assert UpcycleSection().layer_numbers(3) == (0, 1, 2)
    assert UpcycleSection(layers=[4, 1]).layer_numbers(6) == (1, 4)


def test_a_layer_that_the_model_lacks_is_named_with_the_key() -> None:
    with pytest.raises(RecipeError, match=r"upcycle.layers: must lie in 0\.\.5.*got 6"):
        UpcycleSection(layers=[0, 6]).layer_numbers(6)


@pytest.mark.parametrize("layers", [[], [1, 1], [-1], [True], [0.5], "some", 3, None])
def test_layers_that_mean_nothing_are_refused(layers: object) -> None:
    with pytest.raises(ValidationError, match=r'must be "all" or a list of layer numbers'):
        UpcycleSection.model_validate({"layers": layers})


@pytest.mark.parametrize("written", [{"num_experts": 4, "top_k": 5}, {"num_experts": 1}])
def test_more_experts_per_token_than_there_are_is_refused(written: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=r"must be at most num_experts") as found:
        UpcycleSection.model_validate(written)

    assert found.value.errors()[0]["loc"] == ("top_k",)


def test_a_section_survives_json() -> None:
    section = UpcycleSection(layers=[2, 0], num_experts=4, noise_fraction=0.5, seed=7)

    assert UpcycleSection.model_validate(section.model_dump(mode="json")) == section
    assert UpcycleSection.model_validate_json(section.model_dump_json()) == section


def test_the_shipped_recipe_upcycles_all_layers_without_noise() -> None:
    recipe = load_training(find_recipe("upcycle-gpt2")).recipe

    assert recipe.upcycle == UpcycleSection(layers="all", num_experts=8, top_k=2)
