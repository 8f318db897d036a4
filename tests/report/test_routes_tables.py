"""Whole tables and lines of `moeprof route-eval`, for figures worked out by hand."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from rich.console import Console
from route_examples import SCENE, TOP_K, example_runs, load_example

from moeprof.evaluation.judge.metrics import LATENCY
from moeprof.report.routes_grid import Grid, markdown_table, terminal_table
from moeprof.report.routes_lines import about_lines, front_lines, note_lines, winner_lines
from moeprof.report.routes_question import question_grid, question_lines
from moeprof.report.routes_scene import SceneReport, scene_report
from moeprof.report.routes_sweep import sweep_grid
from moeprof.report.routes_tables import cost_grid, quality_grid
from moeprof.report.routes_winners import race

if TYPE_CHECKING:
    from pathlib import Path

COST = """\
cost: step latency and energy, emulated hardware
policy         claim          mean, µs    to top-k, %    p50    p95    p99      mJ/token    to top-k, %
───────────────────────────────────────────────────────────────────────────────────────────────────────
top-k          exact      100.0 ± 18.4              -  100.0  110.0  110.0  25.00 ± 4.59              -
slow-exact     exact      125.0 ± 23.0    +25.0 ± 0.0  125.0  137.5  137.5  31.25 ± 5.74    +25.0 ± 0.0

marginal-cost  re-routed   80.0 ± 14.7  -20.0 ± 0.0 *   80.0   88.0   88.0  20.00 ± 3.67  -20.0 ± 0.0 *
oea            re-routed   90.0 ± 16.5  -10.0 ± 0.0 *   90.0   99.0   99.0  22.50 ± 4.13  -10.0 ± 0.0 *

oracle         re-routed   75.0 ± 13.8  -25.0 ± 0.0 *   75.0   82.5   82.5  18.75 ± 3.45  -25.0 ± 0.0 *
"""  # noqa: E501 - a terminal's width
QUALITY = """\
quality and GPUs: recorded traffic
                         experts     gate  changed  Δ cross-entropy      in  peak             router
policy         setting    active  mass, %        %       0.001 nats  budget    °C  throttled      µs
────────────────────────────────────────────────────────────────────────────────────────────────────
top-k                       24.0    100.0      0.0                0     yes  60.0          0     0.0
slow-exact                  24.0    100.0      0.0                0     yes  60.0          0    10.0

marginal-cost  λ=0.5        16.0     97.0     20.0                -     yes  60.0          0    10.0
oea            base_k=2     20.0     96.0     20.0                -     yes  60.0    20.0 µs    10.0

oracle         λ=0.5        16.0     97.0     20.0                -     yes  60.0          0    10.0
"""


def reported(folder: Path, text: str = SCENE, *, seeds: int = len(TOP_K)) -> SceneReport:
    loaded = load_example(folder, text, num_seeds=seeds)
    return scene_report(loaded, example_runs(loaded), is_swept=False)


def printed(grid: Grid, width: int = 120) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False, markup=False).print(terminal_table(grid))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def test_the_cost_table_is_baseline_exact_re_routed_and_who_sees_the_truth(tmp_path: Path) -> None:
    assert printed(cost_grid(reported(tmp_path))) == COST


def test_the_quality_table_fits_120_columns(tmp_path: Path) -> None:
    assert printed(quality_grid(reported(tmp_path))) == QUALITY


def test_live_traffic_shows_cross_entropy_and_who_is_beyond_the_budget(tmp_path: Path) -> None:
    report = reported(tmp_path, SCENE.replace('"recorded"', '"live"'))

    rows = {row[0]: row for row in quality_grid(report).rows}

    assert rows["top-k"][5:7] == ("0", "yes")
    assert rows["marginal-cost"][5:7] == ("30.0 ± 0.0", "yes")
    assert rows["oea"][5:7] == ("41.0 ± 0.0", "no")
    assert not any("Δ cross-entropy -" in line for line in note_lines(report))
    assert "budget: at most 0.04 nats more, to the end of the interval" in note_lines(report)


def test_winners_are_named_by_claim_and_hardware_with_the_next_best(tmp_path: Path) -> None:
    lines = list(winner_lines(reported(tmp_path)))

    metrics = ("mean latency", "p95 latency", "energy")
    exact = "top-k, the baseline; next slow-exact +25.0 ± 0.0 %"
    rerouted = "marginal-cost (λ=0.5) -20.0 ± 0.0 %; next oea (base_k=2) -10.0 ± 0.0 %"
    assert lines == [
        *(f"exact, emulated: least {metric}: {exact}" for metric in metrics),
        *(f"re-routed, emulated: least {metric}: {rerouted}" for metric in metrics),
        "(changes to top-k; intervals hold for all settings at once)",
    ]


def test_neither_the_oracle_nor_who_loses_too_much_quality_wins(tmp_path: Path) -> None:
    found = race(reported(tmp_path), "re-routed", LATENCY)

    # λ=2 takes 60 % and the oracle 75 % of top-k's latency.
    assert found.winner is not None
    assert dict(found.winner.figures.setting) == {"lambda_": 0.5}
    assert found.num_candidates == 2


def test_a_claim_without_a_setting_in_the_budget_says_so(tmp_path: Path) -> None:
    text = SCENE + "\n[budget]\ngate_mass_fraction = 0.99\n"

    lines = list(winner_lines(reported(tmp_path, text)))

    assert lines[3] == "re-routed, emulated: no setting is shown to be within the budget"


def test_one_seed_has_figures_and_no_interval_anywhere(tmp_path: Path) -> None:
    report = reported(tmp_path, seeds=1)
    lines = [*note_lines(report), *winner_lines(report), *question_lines(report)]

    assert "one seed: how much another would differ is unknown" in "\n".join(lines)
    assert "±" not in printed(cost_grid(report)) + "\n".join(lines)
    assert "marginal-cost (λ=0.5) -20.0 %, with no interval" in "\n".join(lines)
    assert cost_grid(report).rows[2][3].rstrip() == "-20.0"


def test_fronts_have_one_line_for_each_standing(tmp_path: Path) -> None:
    lines = list(front_lines(reported(tmp_path)))

    # λ=2 has no rival of its quality but the oracle, whom it beats, as λ=0.5 does not.
    assert lines == [
        f"front of {cost}, re-routed, emulated: marginal-cost {words}"
        for cost in ("latency", "energy")
        for words in (
            "dominates top-k, slow-exact, oea",
            "is cheaper at some qualities and dearer at others than oracle",
        )
    ]


def test_power_and_performance_are_answered_in_two_lines_and_a_row(tmp_path: Path) -> None:
    report = reported(tmp_path)

    first, second = question_lines(report)
    (row,) = question_grid([report]).rows

    choice = "marginal-cost (λ=0.5), re-routed, 80.0 µs, 20.00 mJ/token"
    assert first == f"fastest: {choice}; most frugal: {choice}"
    assert second.startswith("one goal: either choice is within 1 % of the other")
    assert "4 of 6 settings within the budget" in second
    assert row == (
        "a-scene", "marginal-cost (λ=0.5)", "marginal-cost (λ=0.5)", "0.0 ± 0.0", "0.0 ± 0.0",
        "same",
    )  # fmt: skip


def test_the_oracle_is_left_out_of_the_question_with_its_reason(tmp_path: Path) -> None:
    left_out = reported(tmp_path).judged.power_versus_performance.left_out

    assert ("oracle", "sees the truth") in [(each.policy, each.reason) for each in left_out]


def test_what_is_not_measured_stands_above_the_tables(tmp_path: Path) -> None:
    first, second = about_lines(reported(tmp_path))

    assert first == (
        "2 x h200-sxm, gpt-oss-20b, 4 tokens a step, recorded traffic, 2 steps x 4 seeds; "
        "2 MoE layers of a step"
    )
    assert second == (
        "emulated: Leakage is the catalogue's. And 1 more: see the summary that --out writes."
    )


def test_a_sweep_is_a_table_and_changes_no_verdict(tmp_path: Path) -> None:
    loaded = load_example(tmp_path)
    plain = scene_report(loaded, example_runs(loaded), is_swept=False)
    swept = scene_report(loaded, example_runs(loaded, lambdas=(0.0, 1.0)), is_swept=True)

    grid = sweep_grid(swept)

    assert sweep_grid(plain) is None
    assert grid is not None
    assert [row[0] for row in grid.rows] == ["0", "0.5", "1", "2"]
    # 16 and 12 of 32 experts; 3 and 10 % of gate mass lost.
    assert grid.rows[1] == ("0.5", "50.0 ± 0.0", "3.0 ± 0.0", "80.0 ± 14.7", "20.00 ± 3.67")
    assert grid.rows[2][1:3] == ("37.5 ± 0.0", "10.0 ± 0.0")
    assert swept.judged.document() == plain.judged.document()


@pytest.mark.parametrize("character", ["|", "*", "_", "`", "<", "\\"])
def test_a_cell_in_markdown_shows_what_was_written(character: str) -> None:
    lines = list(markdown_table(Grid("t", ("a", "b\nc"), ((f"x{character}y", " 1 "),))))

    assert lines == [
        "**t**", "", "| a | b c |", "|---|---:|", f"| x\\{character}y | 1 |", "",
    ]  # fmt: skip
