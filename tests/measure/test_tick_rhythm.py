"""Claims about foretelling a counter's ticks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from moeprof.measure.tick_rhythm import TickRhythm
from moeprof.measure.ticks import TickWatch

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Watcher:
    """Reads a counter of `period_seconds` as its rhythm says, each read taking `read_seconds`."""

    period_seconds: float
    read_seconds: float = 20e-6
    known_seconds: float | None = None
    dropped: Callable[[int], bool] = lambda _: False
    tick_at: Callable[[float], float] = lambda seconds: seconds
    reset_seconds: float = 1e9
    now: float = 0.0
    num_reads: int = 0
    watch: TickWatch = field(default_factory=TickWatch)

    def __post_init__(self) -> None:
        self.rhythm = TickRhythm(self.known_seconds)

    def shown_joules(self) -> float:
        ticks = self.tick_at(self.now) // self.period_seconds
        resets = self.reset_seconds // self.period_seconds
        return ticks if ticks <= resets else ticks - resets - 1

    def window(self, seconds: float) -> int:
        """Watch for so long; return the reads that it took."""
        num_reads, end_seconds = self.num_reads, self.now + seconds
        self.watch.begin(self.now)
        self.rhythm.begin(self.now)
        while self.now < end_seconds:
            quiet_seconds = min(self.rhythm.quiet_seconds(self.now), end_seconds - self.now)
            self.now += max(self.rhythm.chunk_seconds, quiet_seconds) + self.read_seconds
            self.read()
        return self.num_reads - num_reads

    def read(self) -> None:
        self.num_reads += 1
        self.rhythm.read_seconds = self.read_seconds
        joules = None if self.dropped(self.num_reads) else self.shown_joules()
        num_ticks, num_resets = len(self.watch.ticks), self.watch.num_resets
        self.watch.note(self.now, joules)
        if self.watch.num_resets != num_resets:
            self.rhythm.begin(self.now)
        elif len(self.watch.ticks) != num_ticks:
            self.rhythm.note(self.watch.ticks[-1])

    def num_reads_dense(self, seconds: float) -> float:
        return seconds / (self.rhythm.chunk_seconds + self.read_seconds)

    def num_sharp(self) -> int:
        limit_seconds = self.rhythm.chunk_seconds + self.read_seconds
        return sum(tick.error_seconds < limit_seconds for tick in self.watch.ticks)


def test_an_unknown_period_is_refined_by_every_tick() -> None:
    watcher = Watcher(0.0993)
    watcher.window(3.0)

    assert watcher.rhythm.period_seconds == pytest.approx(0.0993, rel=0.002)


def test_ever_more_ticks_are_passed_over() -> None:
    watcher = Watcher(0.1)

    assert watcher.window(5.0) < 0.2 * watcher.num_reads_dense(5.0)


def test_a_fast_counter_that_is_slow_to_read_is_learned_too() -> None:
    for phase in range(11):
        watcher = Watcher(0.02, read_seconds=0.001, now=0.001 * phase)
        num_reads = watcher.window(5.0)

        assert watcher.num_sharp() >= 2
        assert num_reads < 0.8 * watcher.num_reads_dense(5.0)


def test_the_first_tick_after_a_pause_is_awaited() -> None:
    watcher = Watcher(0.0993)
    watcher.window(2.0)
    for pause_seconds in (0.31, 0.77, 1.234):
        watcher.now += pause_seconds
        watcher.window(0.25)

        assert watcher.num_sharp() >= 2


def test_a_rhythm_lost_in_a_long_pause_is_found_again() -> None:
    watcher = Watcher(0.0993)
    watcher.window(0.5)
    for pause_seconds in (5.03, 17.77, 61.234):
        watcher.now += pause_seconds
        watcher.window(0.6)

        assert watcher.num_sharp() >= 2


@pytest.mark.parametrize("known_seconds", [0.05, 0.08, 0.098, 0.102, 0.13, 0.2, 1.0])
def test_a_period_that_was_told_wrong_does_not_keep_ticks_from_being_placed(
    known_seconds: float,
) -> None:
    watcher = Watcher(0.1, known_seconds=known_seconds)
    for _ in range(5):
        watcher.now += 0.731
        watcher.window(3.0)

        assert watcher.num_sharp() >= 2


def test_a_period_that_drifts_is_followed() -> None:
    watcher = Watcher(0.1, tick_at=lambda seconds: seconds + 0.0005 * seconds**2)
    watcher.window(20.0)

    assert watcher.num_sharp() >= 8
    assert watcher.num_reads < 0.3 * watcher.num_reads_dense(20.0)


def test_a_tick_that_comes_otherwise_than_foretold_unlearns() -> None:
    watcher = Watcher(0.1, tick_at=lambda seconds: seconds if seconds < 3 else 1.4 * seconds)
    watcher.window(3.0)
    watcher.window(8.0)

    assert watcher.rhythm.period_seconds == pytest.approx(0.1 / 1.4, rel=0.01)


def test_after_a_reset_the_next_tick_is_awaited() -> None:
    watcher = Watcher(0.1, reset_seconds=3.0)
    watcher.window(6.0)

    assert watcher.watch.num_resets == 1
    assert watcher.num_sharp() >= 1
    assert watcher.rhythm.period_seconds == pytest.approx(0.1, rel=0.005)


@pytest.mark.parametrize("every", [2, 3, 7])
def test_dropped_reads_do_not_mislead(every: int) -> None:
    watcher = Watcher(0.0993, dropped=lambda read: read % every == 0)
    watcher.window(5.0)

    assert watcher.rhythm.period_seconds == pytest.approx(0.0993, rel=0.005)
    assert watcher.num_reads < 0.4 * watcher.num_reads_dense(5.0)
