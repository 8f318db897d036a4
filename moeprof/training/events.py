"""What a training run tells those who watch it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from moeprof.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

    from moeprof.training.figures import Figures
    from moeprof.training.learner import StepResult


@dataclass(frozen=True, slots=True)
class TrainingStarted:
    """A run knows its text and its model, and at which step it begins.

    `concerns` are what may make a resumed run end otherwise than an undisturbed one.
    """

    recipe_name: str
    out: Path
    device_name: str
    text_source: str
    num_train_bytes: int
    num_parameters: int
    num_layers: int
    num_experts: int
    top_k: int
    num_steps: int
    first_step: int
    concerns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What the machine told during a step; None is what it does not tell.

    `peak_bytes` is the most memory that this process has used so far, of the GPU's where it has
    one.
    """

    tokens_per_second: float
    peak_bytes: int
    watts: float | None = None
    die_celsius: float | None = None


@dataclass(frozen=True, slots=True)
class StepDone:
    """One step is done; `validation_bits_per_byte` is the last that was found."""

    num_done: int
    num_steps: int
    result: StepResult
    bits_per_byte: float
    validation_bits_per_byte: float | None
    is_validated: bool
    reading: Reading
    remaining_seconds: float


@dataclass(frozen=True, slots=True)
class TrainingEnded:
    """A run is done, or was asked to stop; `figures` are None where steps are left."""

    out: Path
    num_done: int
    num_steps: int
    figures: Figures | None

    @property
    def exit_code(self) -> ExitCode:
        """The exit code that a run with this end deserves."""
        return ExitCode.DONE if self.figures is not None else ExitCode.INTERRUPTED


class TrainingObserver(Protocol):
    """Hears what a run does."""

    def started(self, event: TrainingStarted) -> None:
        """Take what the run is about to do."""

    def stepped(self, event: StepDone) -> None:
        """Take what a step came to."""

    def judging(self, what: str) -> None:
        """Take what is done when all steps are."""
