"""Samples of several programs, taken in rounds of random order so that drift hits all alike."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from moeprof.errors import DeviceLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np

    from moeprof.device.protocol import Program

# 1 - 2^-5 is above 95 %: fewer samples support no interval of a median.
ROUNDS_MIN: Final = 6
# Clocks rise again after the pause in which kernels were bound.
_LEAD_IN_SECONDS: Final = 0.05


@dataclass(slots=True)
class Rounds:
    """Seconds per launch of every program that lasted, by round, and why the others did not."""

    samples: dict[str, list[float]]
    broken: dict[str, Exception] = field(default_factory=dict)

    @contextmanager
    def leaving(self, name: str) -> Iterator[None]:
        """Take a program out that raises inside. Raises DeviceLost."""
        try:
            yield
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 - another package's code may fail in any way
            self.broken[name] = error
            del self.samples[name]


def take_rounds(
    programs: Mapping[str, Program],
    *,
    rounds: int,
    random: np.random.Generator,
    now: Callable[[], float],
    end_seconds: float,
) -> Rounds:
    """Sample every program once a round, after a round that is not kept.

    Ends after `rounds`, or at `end_seconds` of `now` with at least ROUNDS_MIN rounds. A program
    that raises leaves; the others go on.

    Raises:
        DeviceLost: nothing can be sampled any more.

    """
    taken = Rounds({name: [] for name in programs})
    for name in tuple(programs)[:1]:
        with taken.leaving(name):
            programs[name].run(_LEAD_IN_SECONDS)
    for done in range(rounds + 1):
        if done > min(ROUNDS_MIN, rounds) and now() >= end_seconds:
            break
        names = list(taken.samples)
        for index in random.permutation(len(names)):
            with taken.leaving(names[index]):
                seconds = programs[names[index]].sample()
                if done > 0:  # the first round wakes everything up
                    taken.samples[names[index]].append(seconds)
    return taken
