from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from moeprof.errors import InputError
from moeprof.kernel.cuda.tuned import (
    TunedEntry,
    TunedShape,
    TunedTable,
    load_table,
    load_tables,
    look_up,
    save_table,
    user_path,
)

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = TunedShape("sm_90a", "bf16", 2048, 768, 128, 8)


def entry(variant: str, **changes: Any) -> TunedEntry:
    return TunedEntry(replace(SHAPE, **changes), variant, 1e-4)


def table(*entries: TunedEntry) -> TunedTable:
    return TunedTable(entries, "t.json")


def variant_of(found: TunedTable, **changes: Any) -> str | None:
    hit = found.lookup(replace(SHAPE, **changes))
    return None if hit is None else hit.variant


def test_the_same_shape_comes_first() -> None:
    found = table(entry("near", num_tokens=9), entry("exact"))
    hit = found.lookup(SHAPE)

    assert hit is not None
    assert (hit.variant, hit.exact) == ("exact", True)


def test_tokens_of_the_same_layer_count_before_other_layers() -> None:
    found = table(entry("same-layer", num_tokens=2), entry("other-layer", hidden_size=2304))
    hit = found.lookup(SHAPE)

    assert hit is not None
    assert (hit.variant, hit.exact) == ("same-layer", False)


def test_the_nearest_tokens_are_nearest_in_octaves_and_fewer_of_two() -> None:
    found = table(entry("four", num_tokens=4), entry("sixteen", num_tokens=16))

    assert variant_of(found, num_tokens=7) == "four"
    assert variant_of(found, num_tokens=12) == "sixteen"
    assert variant_of(found, num_tokens=8) == "four"


@pytest.mark.parametrize(
    "changes",
    [{"architecture": "sm_80"}, {"dtype": "fp8_block"}, {"num_tokens": 33}, {"hidden_size": 8200}],
)
def test_what_is_far_says_nothing(changes: dict[str, Any]) -> None:
    assert variant_of(table(entry("v")), **changes) is None


def test_new_entries_replace_those_of_their_shape_only() -> None:
    found = table(entry("old"), entry("kept", num_tokens=1)).with_entries([entry("new")])

    assert {each.variant for each in found.entries} == {"new", "kept"}


def test_an_exact_entry_of_a_later_table_beats_a_near_one_of_an_earlier() -> None:
    near, exact = table(entry("near", num_tokens=9)), table(entry("exact"))
    hit = look_up([near, exact], SHAPE)

    assert hit is not None
    assert hit[0].variant == "exact"
    assert hit[1] is exact
    assert look_up([], SHAPE) is None


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "tuned.json"
    saved = TunedTable((entry("a"), entry("b", num_tokens=64)), path.name)
    save_table(saved, path, note={"device": "H200"})

    assert load_table(path) == saved
    assert [each.name for each in path.parent.iterdir()] == ["tuned.json"]


def document(**changes: Any) -> dict[str, Any]:
    one = {
        "architecture": "sm_90a",
        "dtype": "bf16",
        "hidden_size": 64,
        "expert_size": 96,
        "num_experts": 8,
        "num_tokens": 1,
        "variant": "v",
        "latency_seconds": 1e-5,
    }
    return {"schema": 1, "note": {}, "entries": [one | changes]}


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("{", "is no JSON"),
        (json.dumps([]), "must be an object with a list"),
        (json.dumps(document() | {"schema": 2}), "schema must be 1, got 2"),
        (json.dumps(document(hidden_size="64")), "hidden_size must be a whole number above 0"),
        (json.dumps(document(num_tokens=0)), "num_tokens must be a whole number above 0, got 0"),
        (json.dumps(document(num_tokens=True)), "num_tokens must be"),
        (json.dumps(document(latency_seconds=-1)), "latency_seconds must be a number above 0"),
        (json.dumps(document(varaint="v")), "varaint is not known"),
        (json.dumps({"schema": 1, "entries": [{}]}), "is missing"),
        (json.dumps({"schema": 1, "entries": [3]}), r"entries\[0\] must be an object, got 3"),
    ],
)
def test_a_damaged_table_is_refused_with_its_place(
    tmp_path: Path, written: str, words: str
) -> None:
    path = tmp_path / "t.json"
    path.write_text(written, encoding="utf-8")

    with pytest.raises(InputError, match=words) as caught:
        load_table(path)

    assert str(path) in caught.value.message


def test_the_users_table_is_where_the_environment_says(tmp_path: Path) -> None:
    assert user_path({"MOEPROF_TUNED": "/x/t.json"}).as_posix() == "/x/t.json"
    assert user_path({"XDG_CONFIG_HOME": str(tmp_path)}) == tmp_path / "moeprof" / "tuned.json"
    assert user_path({}).parts[-3:] == (".config", "moeprof", "tuned.json")


def test_a_table_that_is_named_must_be_there_and_the_default_need_not(tmp_path: Path) -> None:
    assert load_tables({"XDG_CONFIG_HOME": str(tmp_path)}) == load_tables(
        {"XDG_CONFIG_HOME": str(tmp_path / "nowhere")}
    )
    with pytest.raises(InputError, match="cannot be read"):
        load_tables({"MOEPROF_TUNED": str(tmp_path / "missing.json")})


def test_the_users_table_comes_before_those_that_ship(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    save_table(table(entry("mine")), path, note={})

    assert load_tables({"MOEPROF_TUNED": str(path)})[0].name == "mine.json"
