from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moeprof.errors import ExitCode, RecipeError
from moeprof.recipe.load import find_recipe, load_recipe, recipe_names

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """
name = "good"
seed = 3

[workload]
models = ["mixtral-8x7b"]
dtypes = ["bf16"]
kernels = ["torch-loop"]
batch_sizes = [1, 2]
patterns = ["uniform", "active:2"]

[[workload.placements]]
strategy = "contiguous"
num_ranks = 2

[stopping]
seconds_max = 2.0
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_valid(name: str) -> None:
    loaded = load_recipe(find_recipe(name))

    assert loaded.recipe.name == name
    assert loaded.recipe.description


def test_the_promised_recipes_ship() -> None:
    promised = {"quickstart", "mixtral-decode", "same-work-fewer-experts", "hot-and-cold"}

    assert promised | {"ci-smoke"} <= set(recipe_names())


def test_a_seed_given_replaces_the_recipes_own(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)

    assert load_recipe(path).recipe.seed == 3
    assert load_recipe(path, seed=9).recipe.seed == 9


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("batch_sizes", "batch_size", "batch_size: there is no such key; did you mean batch_sizes"),
        ("seed = 3", "seconds_max = 3", "did you mean stopping.seconds_max?"),
        ("[stopping]", "[stoping]", "stoping: there is no such key; did you mean stopping?"),
        ("num_ranks", "num_rank", "did you mean num_ranks?"),
        ("seed = 3", 'seed = "3"', "seed: must be a whole number, got '3'"),
        ("seed = 3", "seed = 3.5", "seed: must be a whole number, got 3.5"),
        ("[1, 2]", "[0]", "workload.batch_sizes: must be at least 1, got 0"),
        ("[1, 2]", "[]", "must name at least one batch size"),
        ('"bf16"', '"bf61"', "did you mean 'bf16'?"),
        ('"contiguous"', '"contigous"', "did you mean 'contiguous'?"),
        ("mixtral-8x7b", "mixtral-8x7", "mixtral-8x7b"),
        ("active:2", "active:9", "N must lie in 2..4"),
        ("active:2", "actve:2", "Did you mean active:N?"),
        ("num_ranks = 2", "num_ranks = 9", "workload.placements"),
        ("num_ranks = 2", "num_ranks = 2\ntp_size = 5", "tp_size must divide"),
        ("seconds_max = 2.0", "seconds_max = -1", "stopping.seconds_max: must be more than 0"),
        ("seconds_max = 2.0", "seconds_max = nan", "finite number"),
        (
            "batch_sizes",
            'unchecked_kernels = ["torch-lop"]\nbatch_sizes',
            "unchecked_kernels must be among kernels, got 'torch-lop'; did you mean torch-loop?",
        ),
        (
            '["torch-loop"]',
            '["auto"]\nunchecked_kernels = ["auto"]',
            "unchecked_kernels must not name auto",
        ),
        ("seconds_max = 2.0", "num_samples_min = 30_000", "num_samples_min must not exceed"),
        ('models = ["mixtral-8x7b"]', "", "at least one of `models` and `layers`"),
        ('"uniform", "active:2"', '"uniform", "uniform"', "must not name one choice twice"),
        ("num_ranks = 2", "num_ranks = 2\nnum_nodes = 2", "eplb only"),
        ('name = "good"', "", "name: is missing"),
        ('name = "good"', "name = ", "is not valid TOML"),
    ],
)
def test_a_fault_is_named_by_file_key_and_remedy(
    tmp_path: Path, right: str, wrong: str, said: str
) -> None:
    assert right in GOOD
    path = write(tmp_path, GOOD.replace(right, wrong, 1))

    with pytest.raises(RecipeError) as caught:
        load_recipe(path)

    words = f"{caught.value.message} {caught.value.hint}"
    assert words.startswith(str(path))
    assert said in words
    assert caught.value.exit_code == ExitCode.INPUT


def test_a_recipe_that_is_not_there_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        find_recipe("quikstart")

    assert "quickstart" in str(caught.value.hint)


def test_a_shipped_recipe_is_found_by_its_name_alone() -> None:
    assert find_recipe("quickstart").name == "quickstart.toml"
    assert find_recipe("recipes/quickstart.toml").is_file()


def test_a_recording_is_looked_for_beside_its_recipe(tmp_path: Path) -> None:
    ids = tmp_path / "ids.csv"
    ids.write_text("a,b\n0,1\n2,3\n", encoding="utf-8")
    path = write(tmp_path, GOOD.replace("active:2", "replay:ids.csv"))

    loaded = load_recipe(path)

    assert str(loaded.patterns[1]) == f"replay:{ids}"
