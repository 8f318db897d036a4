"""What decides that a point has been timed well enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from moeprof.record import Interval


class StoppingRule(Protocol):
    """Hears every kept sample, and says when there are enough."""

    def add(self, latency_seconds: float) -> None:
        """Take in one sample, in seconds per launch."""

    def is_finished(self) -> bool:
        """Return whether the interval is narrow enough; once True, it stays True."""

    def conclude(self) -> bool:
        """Return the same as `is_finished`, after one last look: the budget is spent."""

    def interval(self) -> Interval:
        """Return the estimate from all samples so far, in seconds. At least one is needed."""
