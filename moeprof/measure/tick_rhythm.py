"""When the next tick of an energy counter is to be expected, learned from those before it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moeprof.measure.ticks import Tick

CHUNK_SECONDS = 0.002
# While a tick is awaited, the device works for so many times as long as reading takes.
_CHUNK_READS = 10.0
# A tick may come early by so much of a period; a period that was told may be wrong by as much.
_EARLY_FRACTION = 0.02
# Of the periods of a window so far, how many pass before the next tick is wanted: reading costs.
_WAIT_FRACTION = 0.5
_SHARP_CHUNKS = 1.5  # a tick that was awaited is placed to half a chunk and a read
# Periods between two ticks can be told from their time while it is known to so much of a period.
_SURE_FRACTION = 0.5


@dataclass(slots=True)
class TickRhythm:
    """Says for how long a counter need not be read; a tick that does not come as foretold unlearns.

    `known_seconds` is the period as far as others found it, `overrun_seconds` by how much work
    lasted longer than was wanted.
    """

    known_seconds: float | None = None
    read_seconds: float = 0.0
    overrun_seconds: float = 0.0
    period_seconds: float | None = None
    _doubt_seconds: float = math.inf  # of the period
    _origin: Tick | None = None  # the period is counted from it
    _num_periods: int = 0  # between the origin and the last sharp tick
    _sharp: Tick | None = None
    _first_seconds: float | None = None  # of the window's first sharp tick
    _num_seen: int | None = None  # ticks since the last sharp one; None: not watched all the time
    _due_seconds: float | None = None
    _margin_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._forget()

    @property
    def chunk_seconds(self) -> float:
        """For how long to work between two reads."""
        return max(CHUNK_SECONDS, _CHUNK_READS * self.read_seconds)

    def quiet_seconds(self, now_seconds: float) -> float:
        """Return for how long no tick is wanted or expected; 0 or less: read after every chunk."""
        if self._due_seconds is None:
            return 0.0
        return self._due_seconds - self._margin_seconds - now_seconds

    def begin(self, earliest_seconds: float) -> None:
        """Want the first tick from then on, as at the start of a window or after a reset."""
        self._first_seconds = self._num_seen = self._due_seconds = None
        if self._sharp is not None and self.period_seconds is not None:
            # Ticks go on in their rhythm while the device cools between two windows.
            unseen_seconds = earliest_seconds + self._poll_seconds - self._sharp.at_seconds
            self._expect(self._sharp, math.ceil(unseen_seconds / self.period_seconds))

    def note(self, tick: Tick) -> None:
        """Learn from a tick; one badly placed, such as those passed over, is only counted."""
        if self._num_seen is not None:
            self._num_seen += 1
        if tick.error_seconds > _SHARP_CHUNKS * self._poll_seconds:
            return
        self._learn(tick)
        self._sharp, self._num_seen, self._due_seconds = tick, 0, None
        if self._first_seconds is None:
            self._first_seconds = tick.at_seconds
        if self.period_seconds is not None:
            passed = (tick.at_seconds - self._first_seconds) / self.period_seconds
            self._expect(tick, round(_WAIT_FRACTION * passed))
            if self.quiet_seconds(tick.at_seconds) > self._poll_seconds:
                self._num_seen = None

    @property
    def _poll_seconds(self) -> float:
        return self.chunk_seconds + self.overrun_seconds + self.read_seconds

    def _expect(self, last: Tick, num_periods: int) -> None:
        assert self.period_seconds is not None
        num_periods = max(1, num_periods)
        self._due_seconds = last.at_seconds + num_periods * self.period_seconds
        self._margin_seconds = (
            2 * self._poll_seconds
            + _EARLY_FRACTION * self.period_seconds
            + num_periods * self._doubt_seconds
        )

    def _learn(self, tick: Tick) -> None:
        num_periods = self._num_since(tick)
        if self._is_missed(tick):
            self._forget()
            num_periods = None
        if num_periods is None or self._origin is None:
            self._origin, self._num_periods = tick, 0
            return
        self._num_periods += num_periods
        doubt_seconds = (self._origin.error_seconds + tick.error_seconds) / self._num_periods
        if doubt_seconds < self._doubt_seconds:
            self._doubt_seconds = doubt_seconds
            self.period_seconds = (tick.at_seconds - self._origin.at_seconds) / self._num_periods

    def _is_missed(self, tick: Tick) -> bool:
        if self._due_seconds is None:
            return False
        return abs(tick.at_seconds - self._due_seconds) > self._margin_seconds

    def _num_since(self, tick: Tick) -> int | None:
        """Return the periods since the last sharp tick, None where neither time nor count tell."""
        if self._sharp is None:
            return None
        if self.period_seconds is not None:
            periods = (tick.at_seconds - self._sharp.at_seconds) / self.period_seconds
            error_seconds = self._sharp.error_seconds + tick.error_seconds
            error_seconds += periods * self._doubt_seconds
            if error_seconds < _SURE_FRACTION * self.period_seconds:
                return max(1, round(periods))
        return self._num_seen

    def _forget(self) -> None:
        """Go back to what others found of the period, and count anew."""
        self.period_seconds, self._doubt_seconds = self.known_seconds, math.inf
        if self.known_seconds is not None:
            self._doubt_seconds = _EARLY_FRACTION * self.known_seconds
