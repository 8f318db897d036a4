"""Claims about catalogue files: every number has a source, and every fault is named."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from moeprof.errors import CatalogueError
from moeprof.resources import data_folder
from moeprof.sourced import Kind, read

if TYPE_CHECKING:
    from pathlib import Path

CATALOGUE = sorted(
    path for name in ("gpus", "models") for path in data_folder().glob(f"{name}/*.toml")
)
REQUIRED = {"name": Kind.TEXT, "block.size": Kind.COUNT}
OPTIONAL = {"aliases": Kind.TEXTS, "block.rate": Kind.NUMBER}
VALID = """
name = "example"
aliases = ["a", "b"]

[block]
size = { value = 8, source = "config: num_experts" }
rate = { value = 2, source = "guess" }

[sources]
config = "https://example.org/config.json"
guess = "nobody knows"
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "example.toml"
    path.write_text(text)
    return path


def refusal(path: Path) -> CatalogueError:
    with pytest.raises(CatalogueError, match=re.escape(str(path))) as refused:
        read(path, required=REQUIRED, optional=OPTIONAL)
    assert refused.value.hint
    return refused.value


def bare_numbers(found: object, key: str) -> list[str]:
    """Return the keys of numbers that do not stand beside a source."""
    if isinstance(found, dict):
        sourced = isinstance(found.get("source"), str)
        items = {name: value for name, value in found.items() if not (sourced and name == "value")}
        return [bare for name in items for bare in bare_numbers(items[name], f"{key}.{name}")]
    if isinstance(found, list):
        return [bare for value in found for bare in bare_numbers(value, key)]
    return [key] if isinstance(found, int | float) else []


def source_names(found: dict[str, Any]) -> set[str]:
    """Return the names before the colon of every source in a file."""
    named = {found["source"].partition(":")[0]} if isinstance(found.get("source"), str) else set()
    return named.union(*(source_names(v) for v in found.values() if isinstance(v, dict)))


@pytest.mark.parametrize("path", CATALOGUE, ids=lambda path: path.stem)
def test_every_number_in_the_catalogues_has_a_source(path: Path) -> None:
    assert bare_numbers(tomllib.loads(path.read_text()), path.stem) == []


@pytest.mark.parametrize("path", CATALOGUE, ids=lambda path: path.stem)
def test_every_named_source_is_described_and_every_described_source_is_used(path: Path) -> None:
    found = tomllib.loads(path.read_text())

    assert source_names(found) == found["sources"].keys()


@pytest.mark.parametrize("path", CATALOGUE, ids=lambda path: path.stem)
def test_a_source_is_an_address_or_says_that_there_is_none(path: Path) -> None:
    for reference in tomllib.loads(path.read_text())["sources"].values():
        assert re.match("https://[a-z]", reference) or re.search(
            "no public address|no real model", reference
        )


def test_values_come_plain_and_sources_apart(tmp_path: Path) -> None:
    found = read(written(tmp_path, VALID), required=REQUIRED, optional=OPTIONAL)

    assert found.values == {
        "name": "example",
        "aliases": ("a", "b"),
        "block.size": 8,
        "block.rate": 2.0,
    }
    assert found.sources == {"block.size": "config: num_experts", "block.rate": "guess"}
    assert found.references["config"] == "https://example.org/config.json"


def test_a_table_is_returned_by_the_names_within_it(tmp_path: Path) -> None:
    found = read(written(tmp_path, VALID), required=REQUIRED, optional=OPTIONAL)

    assert found.under("block") == {"size": 8, "rate": 2.0}
    assert found.under("nothing") == {}


def test_a_whole_number_serves_as_a_number(tmp_path: Path) -> None:
    found = read(written(tmp_path, VALID), required=REQUIRED, optional=OPTIONAL)

    assert isinstance(found.values["block.rate"], float)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('{ value = 8, source = "config: num_experts" }', "8", "block.size must be a whole number"),
        (', source = "config: num_experts"', "", "block.size must have exactly a value and a"),
        ('"config: num_experts"', "3", "block.size must have exactly a value and a source text"),
        ("value = 8,", "", "block.size must have exactly a value and a source"),
        ("value = 8", "value = 8.5", "block.size must be a whole number with a source, got 8.5"),
        ("value = 8", "value = true", "block.size must be a whole number with a source, got True"),
        ("value = 8", 'value = "8"', "block.size must be a whole number with a source, got '8'"),
        ("value = 2", "value = inf", "block.rate must be a finite number with a source, got inf"),
        ("config: num", "paper: num", "its source names 'paper', but [sources] has config, guess"),
        ("size =", "sise =", "unknown key 'block.sise'; did you mean 'block.size'?"),
        ('name = "example"', "", "name is missing, expected a text"),
        ('name = "example"', "name = 3", "name must be a text, got 3"),
        ('["a", "b"]', '["a", 1]', "aliases must be a list of texts, got ['a', 1]"),
        ('"nobody knows"', "7", "[sources] must map names to texts"),
        ('name = "example"', 'name = "example', "not valid TOML"),
    ],
)
def test_a_fault_is_named_with_file_key_and_what_was_found(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in VALID

    refused = refusal(written(tmp_path, VALID.replace(old, new)))

    assert said in refused.message


def test_a_file_without_sources_is_refused(tmp_path: Path) -> None:
    refused = refusal(written(tmp_path, VALID.partition("[sources]")[0]))

    assert "[sources] has nothing" in refused.message


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    refused = refusal(tmp_path / "nowhere.toml")

    assert "cannot be read" in refused.message
