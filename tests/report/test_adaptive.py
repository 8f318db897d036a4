from __future__ import annotations

from pathlib import Path

import pytest

from moeprof.errors import UsageError
from moeprof.report.adaptive import adaptive_of, chosen_document, chosen_lines
from moeprof.sweep.chosen import Chosen

MODEL = Path("model.json")


def test_adaptive_and_model_come_together_or_not_at_all() -> None:
    asked = adaptive_of(MODEL, 0.03, adaptive=True)

    assert asked is not None
    assert asked.options == ("--adaptive", "--model", "model.json", "--error", "0.03")
    assert adaptive_of(None, 0.02, adaptive=False) is None
    with pytest.raises(UsageError, match="--adaptive needs --model"):
        adaptive_of(None, 0.02, adaptive=True)
    with pytest.raises(UsageError, match="--model is for --adaptive"):
        adaptive_of(MODEL, 0.02, adaptive=False)


def test_the_end_says_how_many_points_were_measured_and_the_error_reached() -> None:
    chosen = Chosen(80, 44, 0.0021, 0.005)

    (line,) = chosen_lines(chosen)
    assert line.startswith("44 of 80 points were worth measuring")
    assert line.endswith("is 0.2 % (median), 0.5 % was asked")
    assert chosen_document(chosen) == {
        "num_points": 80,
        "num_measured": 44,
        "half_width_fraction": 0.0021,
        "wanted_fraction": 0.005,
        "reached": True,
    }


def test_an_error_that_was_not_reached_says_what_to_do() -> None:
    assert "nothing left to measure" in list(chosen_lines(Chosen(80, 80, 0.03, 0.005)))[1]
    assert list(chosen_lines(None)) == []
    assert chosen_document(None) is None
