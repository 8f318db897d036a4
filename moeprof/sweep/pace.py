"""The time a sweep still needs, learnt from the points it has finished."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median

_NUM_REMEMBERED = 64


@dataclass(slots=True)
class Pace:
    """Entries to go, and how long the last ones took: typically, since warm-ups are rare."""

    num_entries_left: int
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_NUM_REMEMBERED))

    def finished(self, seconds: float) -> None:
        """Take note that one more entry is done, and how long it took."""
        self.num_entries_left -= 1
        self._seconds.append(seconds)

    def remaining_seconds(self) -> float | None:
        """Return the time left at the recent pace; None before the first entry is finished."""
        if not self._seconds:
            return None
        return self.num_entries_left * median(self._seconds)
