"""The options of an adaptive sweep, and what such a sweep says of itself at its end."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from moeprof.cost.model_file import load_model
from moeprof.errors import UsageError
from moeprof.report import human
from moeprof.sweep.chosen import Chooser

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from moeprof.sweep.chosen import Chosen


@dataclass(frozen=True, slots=True)
class Adaptive:
    """What was asked for: the model to make sure, and the half-width that is sure enough."""

    model: Path
    wanted_fraction: float

    def chooser(self) -> Chooser:
        """Return what chooses the points.

        Raises:
            ModelFileError: the model cannot be read.

        """
        return Chooser(load_model(self.model), self.wanted_fraction)

    @property
    def options(self) -> tuple[str, ...]:
        """The options that ask for the same again."""
        error = str(self.wanted_fraction)
        return ("--adaptive", "--model", str(self.model), "--error", error)


def adaptive_of(model: Path | None, error: float, *, adaptive: bool) -> Adaptive | None:
    """Return what the options ask for; None: to measure every point.

    Raises:
        UsageError: there is only one of --adaptive and --model.

    """
    if adaptive and model is None:
        raise UsageError(
            "--adaptive needs --model, which says what is not known well enough",
            hint="Fit one with: moeprof fit-cost DATASET --out model.json",
        )
    if model is not None and not adaptive:
        raise UsageError("--model is for --adaptive sweeps", hint="Add --adaptive.")
    return None if model is None else Adaptive(model, error)


def chosen_lines(chosen: Chosen | None) -> Iterator[str]:
    """Yield how many points had to be measured, and how sure the model is now."""
    if chosen is None:
        return
    found = human.percent(chosen.half_width_fraction, digits=1)
    wanted = human.percent(chosen.wanted_fraction, digits=1)
    yield (
        f"{chosen.num_measured} of {chosen.num_points} points were worth measuring: half of a 90 % "
        f"interval is {found} (median), {wanted} was asked"
    )
    if not chosen.reached and chosen.num_measured == chosen.num_points:
        yield "there is nothing left to measure: add batch sizes or time to the recipe"


def chosen_document(chosen: Chosen | None) -> dict[str, Any] | None:
    """Return the same for a JSON document; None: there was nothing to choose, or no end to it."""
    return None if chosen is None else {**asdict(chosen), "reached": chosen.reached}
