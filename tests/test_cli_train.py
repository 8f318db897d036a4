"""`moeprof train` as users type it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from training.examples import RECIPE, text_at
from typer.testing import CliRunner

from moeprof.cli import app
from moeprof.errors import CheckpointError, MoeprofError, RecipeError, TextError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

SHORT = RECIPE.replace("num_steps = 20", "num_steps = 6")


def run(folder: Path, *options: str, recipe: str = SHORT) -> Any:
    path = folder / "tiny.toml"
    path.write_text(recipe, encoding="utf-8")
    command = ["train", str(path), "--out", str(folder / "out"), "--device", "cpu", *options]
    return CliRunner().invoke(app, command)


def refused(result: Any, kind: type[MoeprofError]) -> MoeprofError:
    assert isinstance(result.exception, kind)
    return result.exception


def test_a_model_is_trained_and_the_figures_are_printed(tmp_path: Path) -> None:
    result = run(tmp_path, "--text", str(text_at(tmp_path)))

    assert result.exit_code == 0, result.exception
    assert "bits per byte" in result.stdout
    assert "3-gram byte model" in result.stdout
    assert "moeprof trace" in result.stdout
    assert "[6/6]" in result.stderr


def test_json_is_one_document_and_the_same_after_a_second_run(tmp_path: Path) -> None:
    first = run(tmp_path, "--text", str(text_at(tmp_path)), "--json")
    second = run(tmp_path, "--text", str(text_at(tmp_path)), "--json")

    document = json.loads(first.stdout)
    assert document["num_done"] == document["num_steps"] == 6
    assert document["figures"]["test"]["bits_per_byte"] > 0
    assert json.loads(second.stdout) == document


def test_the_seed_can_be_given(tmp_path: Path) -> None:
    result = run(tmp_path, "--text", str(text_at(tmp_path)), "--seed", "9", "--json")

    assert json.loads(result.stdout)["figures"]["seed"] == 9


def test_a_study_prints_its_table(tmp_path: Path) -> None:
    recipe = SHORT.partition("[[losses]]")[0] + '[[variants]]\nname = "none"\n'
    result = run(tmp_path, "--text", str(text_at(tmp_path)), recipe=recipe)

    assert result.exit_code == 0, result.exception
    assert "none" in result.stdout
    assert "study.svg" in result.stdout


def test_an_empty_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_bytes(b"")
    error = refused(run(tmp_path, "--text", str(tmp_path / "empty.txt")), TextError)

    assert "empty.txt" in error.message


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out" / "state").mkdir(parents=True)
    (tmp_path / "out" / "state" / "checkpoint.safetensors").write_bytes(b"nonsense")
    error = refused(run(tmp_path, "--text", str(text_at(tmp_path))), CheckpointError)

    assert "checkpoint.safetensors: is damaged" in error.message
    assert "Remove the file" in (error.hint or "")


def test_a_recipe_for_a_sweep_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", "quickstart", "--out", str(tmp_path / "out")])

    assert "is a recipe for sweep" in refused(result, RecipeError).message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [["--upcycle", "somewhere"], ["--device", "cuda:0"]])
def test_a_study_refuses_options_that_it_cannot_keep(tmp_path: Path, options: list[str]) -> None:
    recipe = SHORT.partition("[[losses]]")[0] + '[[variants]]\nname = "none"\n'
    path = tmp_path / "study.toml"
    path.write_text(recipe, encoding="utf-8")
    result = CliRunner().invoke(app, ["train", str(path), "--out", str(tmp_path / "o"), *options])

    assert options[0] in refused(result, UsageError).message


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"a file")
    error = refused(run(tmp_path, "--text", str(text_at(tmp_path))), CheckpointError)

    assert "cannot be written" in error.message
