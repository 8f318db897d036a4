from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeprof.errors import RecipeError
from moeprof.recipe.load_gates import LoadedGates, load_gates

GATE = '[[gates]]\nname = "g"\npolicy = "ours"\n'
P95 = 'metric = "step_latency_seconds.p95"\n'


def load(folder: Path, text: str, **options: Any) -> LoadedGates:
    path = folder / "gates.toml"
    path.write_text(text, encoding="utf-8")
    return load_gates(path, **options)


def test_a_gate_is_for_every_scene_unless_it_names_one(tmp_path: Path) -> None:
    found = load(tmp_path, GATE + P95 + 'against = "top-k"\nat_most_ratio = 0.9\n')

    assert found.gates[0].scene == "*"
    assert found.gates[0].margin == ("at_most_ratio", 0.9)
    assert found.stored is None


def test_a_margin_of_zero_is_a_margin(tmp_path: Path) -> None:
    found = load(tmp_path, GATE + P95 + 'against = "top-k"\nat_most_difference = 0\n')

    assert found.gates[0].margin == ("at_most_difference", 0.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "gates: is missing"),
        ("gates = []\n", "gates: must not be empty"),
        (GATE + P95, "gate 'g': must have one of at_most, .* got none"),
        (GATE + P95 + "at_most = 1\nat_least = 0\n", "got at_most and at_least"),
        (GATE + P95 + "at_mst = 1\n", r"gates\[0\]\.at_mst: .* did you mean at_most\?"),
        (GATE + P95 + "at_most_ratio = 1\n", "at_most_ratio needs against"),
        (GATE + P95 + 'at_most = 1\nagainst = "x"\n', "at_most is of the metric itself"),
        (GATE + P95 + 'at_most_ratio = 0\nagainst = "x"\n', "at_most_ratio: must be more than 0"),
        (GATE + P95 + 'at_most_ratio = 1\nagainst = "ours"\n', "must be another policy"),
        (
            GATE + 'metric = "step_latency_second.p95"\nat_most = 1\n',
            r"gate 'g': there is no metric .*; did you mean 'step_latency_seconds.p95'\?",
        ),
        (GATE + 'metric = "@"\nat_most = 1\n', "there is no metric '@'; there are step_latency"),
        (
            GATE + 'metric = "joules_per_token.high"\nat_least = 1\n',
            "joules_per_token.high goes with at_most only; joules_per_token.mean goes with all",
        ),
        ((GATE + P95 + "at_most = 1\n") * 2, "gates must differ in name, got 'g' twice"),
        (GATE + P95 + "at_most = nan\n", "at_most: must be a finite number"),
        ('kind = "scene"\n' + GATE + P95 + "at_most = 1\n", "kind: must be 'gates'"),
        (GATE + P95 + 'at_most_ratio = 1\nagainst = "stored"\n', "and none is given"),
    ],
)
def test_a_fault_names_the_file_the_gate_and_the_remedy(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(RecipeError, match=words) as found:
        load(tmp_path, text)

    assert str(tmp_path / "gates.toml") in found.value.message


def test_an_earlier_result_lies_beside_the_file_or_where_the_user_says(tmp_path: Path) -> None:
    text = 'stored = "old.json"\n' + GATE + P95 + 'at_most_ratio = 1\nagainst = "stored"\n'

    assert load(tmp_path, text).stored == tmp_path / "old.json"
    assert load(tmp_path, text, stored=Path("new.json")).stored == Path("new.json")
