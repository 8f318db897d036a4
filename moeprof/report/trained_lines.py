"""Training told in plain lines, for pipes and logs."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Final, Self

from moeprof.report import human

if TYPE_CHECKING:
    from rich.console import Console

    from moeprof.training.events import StepDone, TrainingStarted
    from moeprof.training.figures import Figures
    from moeprof.training.study import StudyRun

_NUM_LINES: Final = 20


class TrainingLines:
    """A line for every twentieth part of a run, and one for all else that happens."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        """Say nothing yet."""
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the stream open: it is not ours."""

    def started(self, event: TrainingStarted) -> None:
        """Say what is trained on what."""
        for line in started_lines(event):
            self._say(line)

    def stepped(self, event: StepDone) -> None:
        """Say where the run is, now and then."""
        every = max(1, event.num_steps // _NUM_LINES)
        if event.num_done % every == 0 or event.num_done == event.num_steps:
            self._say(step_words(event))

    def judging(self, what: str) -> None:
        """Say what is done at the end."""
        self._say(what)

    def _say(self, words: str) -> None:
        self._console.print(words, soft_wrap=True)


class StudyLines:
    """A line for every run of a study."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def started(self, name: str, num_runs: int, num_workers: int) -> None:
        """Say how much there is to do."""
        self._say(f"{name}: {num_runs} runs, {num_workers} at a time")

    def finished(self, run: StudyRun, outcome: Figures | str, num_done: int, num_runs: int) -> None:
        """Say what one run came to."""
        where = f"[{num_done}/{num_runs}] {run.variant} seed {run.seed}"
        if isinstance(outcome, str):
            self._say(f"{where}: {outcome}")
            return
        test = outcome.test
        self._say(
            f"{where}: {test.bits_per_byte:.3f} bits per byte, "
            f"diversity {test.diversity_fraction:.2f}, imbalance {test.load_imbalance:.1f}, "
            f"{human.duration(outcome.spent_seconds)}"
        )

    def _say(self, words: str) -> None:
        self._console.print(words, soft_wrap=True)


def started_lines(event: TrainingStarted) -> list[str]:
    """Return what a run is about to do, where it goes on from, and what may be amiss."""
    model = (
        f"{event.recipe_name}: {human.quantity(event.num_parameters, '')} parameters, "
        f"{event.num_layers} layers of {event.num_experts} experts, top {event.top_k}, "
        f"on {event.device_name}"
    )
    text = f"text: {event.text_source}, {human.quantity(event.num_train_bytes, 'B')} to learn from"
    lines = [model, text]
    if event.first_step:
        lines.append(f"resuming after step {event.first_step} of {event.num_steps}")
    return [*lines, *(f"warning: {each}" for each in event.concerns)]


def step_words(event: StepDone) -> str:
    """Return where a run is, in one line."""
    routing = event.result.routing
    words = [
        f"[{event.num_done}/{event.num_steps}] {event.bits_per_byte:.3f} bits per byte",
        f"diversity {fmean(routing.diversity_fractions):.2f}",
        f"imbalance {fmean(routing.load_imbalances):.2f}",
        f"{human.quantity(event.reading.tokens_per_second, '')} tokens/s",
        f"{human.duration(event.remaining_seconds)} left",
    ]
    if event.validation_bits_per_byte is not None:
        words.insert(1, f"validation {event.validation_bits_per_byte:.3f}")
    return ", ".join(words)
