"""Simulated cards that drift through a sweep, and a pace that makes its points differ in length."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

from moeprof.device.sim.device import SimulatedDevice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moeprof.device.protocol import Program, Work
    from moeprof.device.sim.truth import Truth
    from moeprof.hardware.gpu import GPU
    from moeprof.sweep.events import PointFinished, Progress, SweepEnded, SweepStarted

DRIFT_FRACTION: Final = 0.04
SHAPES: Final = ("straight", "curved", "stepped")
_RELAXATIONS: Final = 4.0  # time constants that a curved drift goes through within the sweep


@dataclass(frozen=True, slots=True)
class Drift:
    """How latency grows through a sweep; a straight drift is the simulated card's own."""

    shape: str
    sweep_seconds: float
    step_fraction: float

    def into(self, truth: Truth) -> Truth:
        """Return a truth that drifts by itself where the drift is straight."""
        if self.shape != "straight":
            return truth
        return replace(truth, drift_fraction=DRIFT_FRACTION, drift_seconds=self.sweep_seconds)

    def factor(self, seconds: float) -> float:
        """Return by what factor a latency has grown since the start."""
        share = min(1.0, seconds / self.sweep_seconds)
        if self.shape == "curved":
            share = math.expm1(-_RELAXATIONS * share) / math.expm1(-_RELAXATIONS)
        if self.shape == "stepped":
            share = float(share >= self.step_fraction)
        return 1 + DRIFT_FRACTION * share


class DriftingDevice(SimulatedDevice):
    """A simulated card that also drifts in ways that its truth does not know."""

    def __init__(self, gpu: GPU, truth: Truth, *, seed: int, drift: Drift) -> None:
        super().__init__(gpu, truth, seed=seed)
        self._drift = drift

    def prepare(self, work: Work) -> Any:
        """Price simulated work, as the card does that this is."""
        program = super().prepare(work)
        if self._drift.shape == "straight":
            return program
        return _DriftingProgram(cast("Program", program), self, self._drift)


class _DriftingProgram:
    """A program whose samples are slower by the drift."""

    def __init__(self, program: Program, device: SimulatedDevice, drift: Drift) -> None:
        self._program, self._device, self._drift = program, device, drift
        self.launches_per_sample = program.launches_per_sample

    def sample(self) -> float:
        return self._program.sample() * self._drift.factor(self._device.now())

    def run(self, seconds: float) -> int:
        return self._program.run(seconds)

    def close(self) -> None:
        self._program.close()


class Pacer:
    """Watches a sweep, and lets the card rest after each point until its place is over."""

    def __init__(self, device: SimulatedDevice, ends_seconds: Sequence[float]) -> None:
        self._device = device
        self._ends_seconds = iter(ends_seconds)

    def started(self, event: SweepStarted) -> None:
        """Take no notice."""
        del event

    def progressed(self, event: Progress) -> None:
        """Take no notice."""
        del event

    def finished(self, event: PointFinished) -> None:
        """Let the card rest until the place of this point is over."""
        del event
        self._device.sleep(max(0.0, next(self._ends_seconds) - self._device.now()))

    def ended(self, event: SweepEnded) -> None:
        """Take no notice."""
        del event
