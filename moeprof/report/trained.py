"""What `moeprof train` shows: a model in training, or a study, and what either came to."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from moeprof.errors import ExitCode, StoppedAtOnce, UsageError
from moeprof.recipe.load import find_recipe
from moeprof.recipe.load_training import load_training
from moeprof.report import human
from moeprof.report.consoles import console_on, print_json
from moeprof.report.trained_lines import StudyLines, TrainingLines
from moeprof.report.trained_panel import TrainingPanel
from moeprof.report.trained_study import draw_if_possible, study_table
from moeprof.sweep.stop import stop_on_signals
from moeprof.training.run import TrainingRequest, train
from moeprof.training.study import run_study, study_document

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from moeprof.recipe.load_training import LoadedTraining
    from moeprof.training.events import TrainingEnded
    from moeprof.training.figures import Figures
    from moeprof.training.study import StudyEnded


@dataclass(frozen=True, slots=True)
class TrainCommand:
    """What was asked for on the command line."""

    recipe: str
    out: Path
    texts: tuple[Path, ...] = ()
    upcycle: Path | None = None
    device: str = "auto"
    seed: int | None = None

    def again(self) -> str:
        """Return the command that goes on from here."""
        words = ["moeprof", "train", self.recipe, "--out", str(self.out)]
        for path in self.texts:
            words += ["--text", str(path)]
        if self.upcycle is not None:
            words += ["--upcycle", str(self.upcycle)]
        if self.device != "auto":
            words += ["--device", self.device]
        if self.seed is not None:
            words += ["--seed", str(self.seed)]
        return shlex.join(words)


def show_train(command: TrainCommand, *, as_json: bool) -> ExitCode:
    """Train under the eyes of a terminal or a log, and print what it came to.

    Raises what `train` raises, UsageError for options that a study does not take, StoppedAtOnce.
    """
    loaded = load_training(find_recipe(command.recipe, "training"), seed=command.seed)
    try:
        if loaded.recipe.variants:
            return _show_study(loaded, command, as_json=as_json)
        return _show_training(loaded, command, as_json=as_json)
    except KeyboardInterrupt as order:
        raise StoppedAtOnce(
            "interrupted twice: stopped at once",
            hint=f"It goes on from its last checkpoint: {command.again()}",
        ) from order


def _show_training(loaded: LoadedTraining, command: TrainCommand, *, as_json: bool) -> ExitCode:
    errors = console_on(sys.stderr)
    observer = (
        TrainingPanel(errors) if errors.is_terminal and not as_json else TrainingLines(errors)
    )
    request = TrainingRequest(
        loaded, command.out, command.texts, command.upcycle, selector=command.device
    )
    with stop_on_signals() as stop_requested, observer:
        ended = train(request, observer=observer, stop_requested=stop_requested)
    if as_json:
        print_json(_training_document(ended))
        return ended.exit_code
    console = console_on(sys.stdout)
    for line in _training_lines(ended, command):
        console.print(line, soft_wrap=True)
    return ended.exit_code


def _training_document(ended: TrainingEnded) -> dict[str, Any]:
    return {
        "out": str(ended.out),
        "num_done": ended.num_done,
        "num_steps": ended.num_steps,
        "interrupted": ended.figures is None,
        "figures": asdict(ended.figures) if ended.figures is not None else None,
    }


def _training_lines(ended: TrainingEnded, command: TrainCommand) -> Iterator[str]:
    if ended.figures is None:
        yield f"stopped after {ended.num_done} of {ended.num_steps} steps"
        yield f"go on with: {command.again()}"
        return
    yield from figure_lines(ended.figures)
    yield f"the model is in {ended.out}"
    held_out = ended.out / "held-out.txt"
    trace = ended.out / "trace.parquet"
    words = ["moeprof", "trace", str(ended.out), "--text", str(held_out), "--out", str(trace)]
    yield f"record how it routes the test split with: {shlex.join(words)}"


def figure_lines(figures: Figures) -> Iterator[str]:
    """Yield what a finished run came to, beside the 3-gram byte model where that was fitted."""
    size = human.quantity(figures.num_parameters, "")
    tokens = human.quantity(figures.num_train_tokens, "")
    yield (
        f"{figures.recipe_name}: {size} parameters, {tokens} tokens of {figures.text_source} "
        f"in {human.duration(figures.spent_seconds)}"
    )
    test = figures.test
    yield (
        f"test: {test.bits_per_byte:.3f} bits per byte "
        f"({test.cross_entropy_nats:.3f} nats per token), by the model as it was saved"
    )
    if figures.trigram_bits_per_byte is not None:
        share = test.bits_per_byte / figures.trigram_bits_per_byte - 1
        yield (
            f"3-gram byte model, same split: {figures.trigram_bits_per_byte:.3f} bits per byte; "
            f"the trained model needs {human.percent(abs(share))} {'more' if share > 0 else 'less'}"
        )
    yield (
        f"routing: diversity {test.diversity_fraction:.2f} (of 16 tokens "
        f"{test.step_diversity_fraction:.2f}), load imbalance {test.load_imbalance:.2f}, "
        f"router entropy {test.router_entropy_nats:.2f} nats"
    )


def _show_study(loaded: LoadedTraining, command: TrainCommand, *, as_json: bool) -> ExitCode:
    if command.upcycle is not None:
        raise UsageError(f"--upcycle {command.upcycle}: a study trains its models from nothing")
    if command.device not in {"auto", "cpu"}:
        raise UsageError(
            f"--device {command.device}: a study trains on the cores of the CPU",
            hint="Leave --device out.",
        )
    errors = console_on(sys.stderr)
    with stop_on_signals() as stop_requested:
        ended = run_study(
            loaded,
            command.out,
            texts=command.texts,
            num_workers=_num_cores(),
            observer=StudyLines(errors),
            stop_requested=stop_requested,
        )
    picture = draw_if_possible(ended)
    if as_json:
        print_json({"out": str(ended.out), **study_document(ended)})
        return ended.exit_code
    console = console_on(sys.stdout)
    if ended.variants:
        console.print(study_table(ended))
    for line in _study_lines(ended, command, picture):
        console.print(line, soft_wrap=True)
    return ended.exit_code


def _study_lines(ended: StudyEnded, command: TrainCommand, picture: Path | None) -> Iterator[str]:
    if ended.exit_code is not ExitCode.DONE:
        yield f"stopped after {ended.num_done} of {ended.num_runs} runs"
        yield f"go on with: {command.again()}"
        return
    if ended.trigram_bits_per_byte is not None:
        yield f"3-gram byte model, same split: {ended.trigram_bits_per_byte:.3f} bits per byte"
    if picture is None:
        yield "a picture needs matplotlib: pip install 'moeprof[report]', then the same command"
    else:
        yield f"the picture is {picture}"


def _num_cores() -> int:
    # What this process may use, where the system tells.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
