"""When other benchmarking tools stop, from their published descriptions, to compare against.

nvbench: github.com/NVIDIA/nvbench at 182c77e, stdrel_criterion.cxx and entropy_criterion.cxx, with
the defaults of its docs/cli_help.md. triton: `triton.testing.do_bench`. All of them report a mean
and no interval; `interval` is the one that a reader would draw, as if samples were independent.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import TYPE_CHECKING

from moeprof.record import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from moeprof.measure.stopping import StoppingRule

_TIMEOUT_SECONDS = 15.0  # of nvbench; it counts the host's time, which is longer
_SAMPLES_MIN = 10
_NORMAL_QUANTILE = 1.96
_BATCH = 256  # samples turned into Python numbers at a time


class _Moments:
    """The sums behind a mean and a standard deviation, kept relative to the first value."""

    def __init__(self) -> None:
        self.num = 0
        self._first = 0.0
        self._sum = 0.0
        self._squares = 0.0

    def add(self, value: float) -> None:
        """Take in one more value."""
        if self.num == 0:
            self._first = value
        self.num += 1
        self._sum += value - self._first
        self._squares += (value - self._first) ** 2

    def mean(self) -> float:
        """Return the mean of all values."""
        return self._first + self._sum / self.num

    def deviation(self) -> float:
        """Return their sample standard deviation, infinite below two values."""
        if self.num < 2:  # noqa: PLR2004 - a deviation needs two
            return math.inf
        return math.sqrt(max(0.0, self._squares - self._sum**2 / self.num) / (self.num - 1))

    def interval(self) -> Interval:
        """Return mean +- 1.96 s/sqrt(n)."""
        half_width = _NORMAL_QUANTILE * self.deviation() / math.sqrt(self.num)
        return Interval(self.mean(), self.mean() - half_width, self.mean() + half_width, 0.95)


class FixedTimeRule:
    """Stops after a fixed time of measuring: 100 ms in triton."""

    def __init__(self, seconds: float = 0.1) -> None:
        self._seconds = seconds
        self._total_seconds = 0.0
        self._moments = _Moments()

    def add(self, latency_seconds: float) -> None:
        """Take in one sample, in seconds."""
        self._total_seconds += latency_seconds
        self._moments.add(latency_seconds)

    def is_finished(self) -> bool:
        """Return whether the time is over."""
        return self._total_seconds >= self._seconds

    def conclude(self) -> bool:
        """Return the same as `is_finished`."""
        return self.is_finished()

    def interval(self) -> Interval:
        """Return the mean, and the interval a reader would draw."""
        return self._moments.interval()


class StdrelRule:
    """nvbench's default: the noise sigma/mu is below 0.5 %, or has stopped changing.

    Not before 0.5 s of measured time. "Stopped changing": every 16 samples, once 64 values of the
    running noise are known, the last 512 of them deviate from the latest by less than 5 %.
    """

    _MIN_SECONDS = 0.5
    _MAX_NOISE_FRACTION = 0.005
    _WINDOW, _WINDOW_MIN, _PLATEAU_EVERY = 512, 64, 16
    _PLATEAU_FRACTION = 0.05
    _NOISE_FROM = 5  # samples; fewer give no noise

    def __init__(self) -> None:
        self._moments = _Moments()
        self._total_seconds = 0.0
        self._noises: deque[float] = deque(maxlen=self._WINDOW)

    def add(self, latency_seconds: float) -> None:
        """Take in one sample, in seconds."""
        self._total_seconds += latency_seconds
        self._moments.add(latency_seconds)
        if self._moments.num >= self._NOISE_FROM:
            self._noises.append(self._moments.deviation() / self._moments.mean())

    def is_finished(self) -> bool:
        """Return whether nvbench would stop here."""
        if self._total_seconds > _TIMEOUT_SECONDS:
            return True
        if self._moments.num < _SAMPLES_MIN or self._total_seconds <= self._MIN_SECONDS:
            return False
        return self._noises[-1] < self._MAX_NOISE_FRACTION or self._is_on_plateau()

    def _is_on_plateau(self) -> bool:
        latest, num = self._noises[-1], len(self._noises)
        if num <= self._WINDOW_MIN or self._moments.num % self._PLATEAU_EVERY:
            return False
        variance = sum((noise - latest) ** 2 for noise in self._noises) / (num - 1)
        return math.sqrt(variance) < self._PLATEAU_FRACTION * latest

    def conclude(self) -> bool:
        """Return the same as `is_finished`."""
        return self.is_finished()

    def interval(self) -> Interval:
        """Return the mean, and the interval a reader would draw."""
        return self._moments.interval()


class EntropyRule:
    """nvbench's other rule: the entropy of the samples' histogram has stopped growing.

    Every second sample a line is laid through the last 299 entropies, in bits: it stops where that
    rises by at most 0.048 degrees a sample with an r2 of at least 0.36. nvbench counts equal
    readings of its timer; ours are rounded to the 0.5 us that CUDA events resolve, else no two
    would be equal.
    """

    _MAX_SLOPE = math.tan(math.radians(0.048))
    _MIN_R2 = 0.36
    _WINDOW = 299
    _TICK_SECONDS = 0.5e-6

    def __init__(self) -> None:
        self._moments = _Moments()
        self._total_seconds = 0.0
        self._counts: Counter[int] = Counter()
        self._count_bits = 0.0  # sum of c log2 c over the counts
        self._entropies: deque[float] = deque()
        self._sum = self._squares = self._moment = 0.0  # of the entropies in the window

    def add(self, latency_seconds: float) -> None:
        """Take in one sample, in seconds."""
        self._total_seconds += latency_seconds
        self._moments.add(latency_seconds)
        tick = round(latency_seconds / self._TICK_SECONDS)
        count = self._counts[tick]
        self._counts[tick] = count + 1
        self._count_bits += (count + 1) * math.log2(count + 1)
        self._count_bits -= count * math.log2(count) if count else 0.0
        num = self._moments.num
        self._slide(math.log2(num) - self._count_bits / num)

    def _slide(self, entropy: float) -> None:
        """Move the window on by one, with the sums of y, y^2 and (position in the window) y."""
        if len(self._entropies) == self._WINDOW:
            oldest = self._entropies.popleft()
            self._sum -= oldest
            self._squares -= oldest**2
            self._moment -= self._sum
        self._moment += len(self._entropies) * entropy
        self._entropies.append(entropy)
        self._sum += entropy
        self._squares += entropy**2

    def is_finished(self) -> bool:
        """Return whether nvbench would stop here."""
        if self._total_seconds > _TIMEOUT_SECONDS:
            return True
        if self._moments.num < _SAMPLES_MIN or self._moments.num % 2:
            return False
        num = len(self._entropies)
        mixed = self._moment - (num - 1) / 2 * self._sum
        spread = num * (num**2 - 1) / 12
        total = self._squares - self._sum**2 / num
        if mixed > self._MAX_SLOPE * spread:
            return False
        # Of equal entropies nvbench says r2 = 1.
        return mixed**2 >= self._MIN_R2 * spread * max(0.0, total)

    def conclude(self) -> bool:
        """Return the same as `is_finished`."""
        return self.is_finished()

    def interval(self) -> Interval:
        """Return the mean, and the interval a reader would draw."""
        return self._moments.interval()


def num_taken(rule: StoppingRule, latencies_seconds: NDArray[np.float64]) -> int:
    """Feed samples to a rule until it is finished or they are used up; return how many it took."""
    for start in range(0, len(latencies_seconds), _BATCH):
        for index, latency_seconds in enumerate(latencies_seconds[start : start + _BATCH].tolist()):
            rule.add(latency_seconds)
            if rule.is_finished():
                return start + index + 1
    rule.conclude()
    return len(latencies_seconds)
