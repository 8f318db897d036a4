"""What the documents promise is there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.dataset
import pytest
import torch
from pydantic import BaseModel
from typer.main import get_command

from moeprof.cli import app
from moeprof.huggingface.load import load_model
from moeprof.recipe.load import load_recipe, recipe_names
from moeprof.report.commands import show_sweep
from moeprof.report.findings import markdown_lines
from moeprof.resources import data_folder
from moeprof.selfcheck.audit import CHECKS
from moeprof.selfcheck.finding import Finding, Verdict

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    return sorted(get_command(app).commands)


def test_the_readme_opens_with_the_two_commands() -> None:
    first_lines = README.splitlines()[:5]

    assert any("make demo" in line for line in first_lines)
    assert any("make test" in line for line in first_lines)


@pytest.mark.parametrize("command", commands())
def test_every_command_is_in_the_readme_and_every_option_has_help(command: str) -> None:
    assert f"moeprof {command}" in README
    for option in get_command(app).commands[command].params:
        assert getattr(option, "help", None), f"{command} {option.name}"


def test_every_command_in_the_readme_exists() -> None:
    named = set(re.findall(r"^    moeprof ([a-z-]+)", README, flags=re.MULTILINE))

    assert named == set(commands())


def test_every_shipped_recipe_is_in_the_readme() -> None:
    assert set(re.findall(r"^\| `([a-z-]+)` \|", README, flags=re.MULTILINE)) == set(recipe_names())


def test_every_make_target_in_the_documents_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^    make ([a-z]+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_map_of_the_house_names_every_floor() -> None:
    architecture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    import moeprof  # noqa: PLC0415

    package = Path(moeprof.__file__).parent
    floors = {f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").is_file()}
    floors |= {path.name for path in package.glob("*.py") if not path.name.startswith("__")}

    assert {floor for floor in floors if f"`{floor}`" not in architecture} == set()


def test_the_readmes_one_liners_open_a_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    show_sweep("ci-smoke", out=Path("data-out"), selector="sim:h200-sxm", seed=None, as_json=True)
    (block,) = re.findall(
        r"## Open the data.*?```python\n(.*?)```", README.partition("## Data that")[0], re.DOTALL
    )
    tools = {"duckdb": duckdb, "pandas": pd, "pyarrow": pyarrow}

    counts = [len(eval(line, tools)) for line in block.strip().splitlines()]  # noqa: S307

    assert len(counts) == 3
    assert len(set(counts)) == 1
    assert counts[0] > 0


@pytest.mark.parametrize("name", ["README.md", "docs/real-moe.md"])
def test_the_router_that_a_document_shows_runs_in_the_mini_model(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n([^`]*import[^`]*patch\n.*?)```", text, flags=re.DOTALL)
    plain = load_model(data_folder() / "mini-moe").model
    seen: list[torch.Tensor] = []
    plain.register_forward_hook(lambda _, __, output: seen.append(output.logits))
    tokens = torch.arange(64)[None]

    plain(tokens)
    exec(block, {"model": plain, "tokens": tokens})  # noqa: S102 - the document's own lines

    assert torch.equal(*seen) == ("TopK()" in block)


def test_every_training_recipe_is_in_the_documents() -> None:
    text = README + (ROOT / "docs" / "real-moe.md").read_text(encoding="utf-8")

    assert all(f"moeprof train {name} " in text for name in recipe_names("training"))


def test_help_is_plain_words() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "moeprof", "--help"], capture_output=True, text=True, check=True
    )

    assert all(command in done.stdout for command in commands())


def test_the_example_recipe_is_valid_and_shows_every_key_with_its_default(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    example = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    path = tmp_path / "example.toml"
    path.write_text(example, encoding="utf-8")

    recipe = load_recipe(path).recipe

    def check(shown: BaseModel, where: str) -> None:
        for key, field in type(shown).model_fields.items():
            assert re.search(rf"^{key} = |\[+{where}{key}\]", example, flags=re.MULTILINE), key
            value = getattr(shown, key)
            if isinstance(value, BaseModel):
                check(value, f"{where}{key}.")
            elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
                check(value[0], f"{where}{key}.")
            elif isinstance(value, int | float) and not field.is_required():
                assert value == field.default or key in ("seed", "num_ranks"), key

    check(recipe, "")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_every_file_that_a_document_shows_is_there(name: str) -> None:
    document = ROOT / name
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).is_file(), target


def test_the_figures_in_the_readme_are_those_that_selfcheck_has_written() -> None:
    folder = ROOT / "docs" / "selfcheck"
    document = json.loads((folder / "selfcheck.json").read_text(encoding="utf-8"))
    findings = [
        Finding(name=name, **{**each, "verdict": Verdict(each["verdict"])})
        for name, each in document["findings"].items()
    ]
    table = "\n".join(markdown_lines(findings)) + "\n"

    assert (folder / "selfcheck.md").read_text(encoding="utf-8") == table
    assert f"<!-- selfcheck -->\n\n{table}\n<!-- selfcheck ends -->" in README
    assert document["seed"] == 0
    names = {name for check in CHECKS for name in check.figures}
    assert set(document["findings"]) == names
    assert (folder / "interval-coverage.svg").exists()
