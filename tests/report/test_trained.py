"""What training shows: lines, the panel's facts, the study's table and its picture."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from moeprof.errors import CheckpointError
from moeprof.report.trained import TrainCommand, figure_lines
from moeprof.report.trained_lines import TrainingLines, started_lines, step_words
from moeprof.report.trained_panel import TrainingPanel, load_bars, step_facts
from moeprof.report.trained_study import draw_if_possible, study_table
from moeprof.training.events import Reading, StepDone, TrainingStarted
from moeprof.training.figures import Figures, Judgement
from moeprof.training.learner import StepResult
from moeprof.training.metrics import RoutingMetrics
from moeprof.training.study import StudyEnded, VariantRuns

STARTED = TrainingStarted(
    recipe_name="tiny",
    out=Path("out"),
    device_name="a CPU",
    text_source="some text",
    num_train_bytes=12_300_000,
    num_parameters=3_400_000,
    num_layers=2,
    num_experts=4,
    top_k=2,
    num_steps=100,
    first_step=40,
    concerns=("resumed with threads 1 instead of 2: the last bits of the result may differ",),
)
STEP = StepDone(
    num_done=50,
    num_steps=100,
    result=StepResult(
        cross_entropy_nats=1.234,
        losses={"switch": 0.0123},
        gradient_norm=0.5,
        routing=RoutingMetrics(
            diversity_fractions=(1.0, 0.5),
            step_diversity_fractions=(0.75, 0.25),
            load_imbalances=(1.5, 4.5),
            entropies_nats=(1.0, 0.5),
            load_fractions=((0.4, 0.3, 0.2, 0.1), (0.9, 0.0, 0.1, 0.0)),
        ),
    ),
    bits_per_byte=1.78,
    validation_bits_per_byte=1.9,
    is_validated=False,
    reading=Reading(tokens_per_second=12_345.0, peak_bytes=2**30, watts=99.0),
    remaining_seconds=75.0,
)
FIGURES = Figures(
    recipe_name="tiny",
    seed=1,
    identity={},
    conditions={},
    text_source="some text",
    num_files=3,
    num_train_bytes=100,
    num_parameters=3_400_000,
    num_steps=4,
    num_train_tokens=14_000_000,
    spent_seconds=1200.0,
    best_validation_bits_per_byte=1.7,
    best_validation_step=4,
    last_validation_bits_per_byte=1.7,
    test=Judgement(
        num_tokens=50,
        cross_entropy_nats=1.2,
        bits_per_byte=1.75,
        diversity_fraction=1.0,
        step_diversity_fraction=0.66,
        load_imbalance=1.5,
        router_entropy_nats=2.0,
    ),
    trigram_bits_per_byte=2.5,
)


def printed(*renderables: object) -> str:
    console = Console(file=io.StringIO(), width=160)
    for each in renderables:
        console.print(each)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_start_says_what_is_trained_and_what_may_differ() -> None:
    assert started_lines(STARTED) == [
        "tiny: 3.40 M parameters, 2 layers of 4 experts, top 2, on a CPU",
        "text: some text, 12.3 MB to learn from",
        "resuming after step 40 of 100",
        "warning: resumed with threads 1 instead of 2: the last bits of the result may differ",
    ]


def test_a_step_in_one_line() -> None:
    assert step_words(STEP) == (
        "[50/100] 1.780 bits per byte, validation 1.900, diversity 0.75, imbalance 3.00, "
        "12.3 k tokens/s, 1 min 15 s left"
    )


def test_lines_come_twenty_times_in_a_run() -> None:
    console = Console(file=io.StringIO(), width=160)
    with TrainingLines(console) as lines:
        for number in range(1, 101):
            lines.stepped(replace(STEP, num_done=number))

    assert console.file.getvalue().count("\n") == 20  # type: ignore[attr-defined]


def test_a_bar_per_expert_and_a_dot_for_an_idle_one() -> None:
    assert load_bars((0.4, 0.2, 0.1, 0.0)) == "█▅▃·"
    assert load_bars([1 / 100] * 100) == "█" * 64 + "…"


def test_the_facts_of_a_step_leave_out_what_the_machine_does_not_tell() -> None:
    text = "\n".join(line.rstrip() for line in printed(step_facts(STEP)).splitlines())

    assert "1.234 nats per token · switch 0.012" in text
    assert "12.3 k tokens/s · 1.07 GB · 99.0 W\n" in text
    assert "experts of gate 1  █·▁·" in text
    assert "°C" not in text


def test_the_panel_shows_the_steps_and_the_time_left() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=True)
    moments = iter(range(100))
    with TrainingPanel(console, clock=lambda: next(moments)) as panel:
        panel.started(STARTED)
        panel.stepped(STEP)
        panel.judging("saving the model")

    shown = stream.getvalue()
    assert "tiny · a CPU" in shown
    assert "50/100" in shown
    assert "1 min 15 s left" in shown
    assert "saving the model" in shown


def test_the_figures_stand_beside_the_byte_models() -> None:
    text = "\n".join(figure_lines(FIGURES))

    assert "test: 1.750 bits per byte (1.200 nats per token)" in text
    assert "2.500 bits per byte; the trained model needs 30 % less" in text
    worse = replace(FIGURES, trigram_bits_per_byte=1.4)
    assert "needs 25 % more" in "\n".join(figure_lines(worse))


def test_the_command_to_go_on_with_is_the_whole_command() -> None:
    command = TrainCommand(
        "a b.toml", Path("out"), (Path("x"), Path("y")), Path("gpt2"), "cuda:0", 7
    )

    assert command.again() == (
        "moeprof train 'a b.toml' --out out --text x --text y --upcycle gpt2 --device cuda:0 "
        "--seed 7"
    )


@pytest.fixture
def study(tmp_path: Path) -> StudyEnded:
    variants = []
    for number, name in enumerate(("none", "switch")):
        runs = []
        for seed in (1, 2):
            folder = tmp_path / name / f"seed-{seed}"
            folder.mkdir(parents=True)
            rows = [
                {
                    "bits_per_byte": 8 / step + number,
                    "step_diversity_fraction": 0.5 * number,
                    "load_imbalance": 4.0 - number,
                }
                for step in range(1, 5)
            ]
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / "curve.jsonl").write_text(lines, encoding="utf-8")
            test = replace(FIGURES.test, bits_per_byte=2.0 + number + seed / 10)
            runs.append(replace(FIGURES, seed=seed, test=test))
        variants.append(VariantRuns(name, tuple(runs)))
    return StudyEnded("losses", tmp_path, 4, 4, tuple(variants), 2.5)


def test_a_studys_table_has_a_row_per_variant_with_its_spread(study: StudyEnded) -> None:
    text = printed(study_table(study))

    assert "standard deviation of 2 seeds" in text
    assert "2.150 ± 0.071" in text
    assert "3.150 ± 0.071" in text
    assert "0.66 ± 0.00" in text


def test_a_studys_picture_names_every_variant_and_is_the_same_every_time(
    study: StudyEnded,
) -> None:
    path = draw_if_possible(study)
    assert path is not None
    first = path.read_bytes()
    draw_if_possible(study)

    assert first.startswith(b"<?xml")
    assert b"none" in first
    assert b"switch" in first
    assert path.read_bytes() == first


def test_a_picture_that_cannot_be_written_is_a_clear_error(study: StudyEnded) -> None:
    (study.out / "study.svg").mkdir()

    with pytest.raises(CheckpointError, match=r"study\.svg: cannot be written"):
        draw_if_possible(study)

    assert not list(study.out.glob(".*"))
