"""A kernel and decode work that fits into the device's cache, ready to be audited on it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.selfcheck.work import BYTES_PER_WEIGHT, decode_workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

    from moeprof.device.protocol import Device, Program
    from moeprof.kernel.protocol import Kernel, L2State
    from moeprof.selfcheck.finding import Finding
    from moeprof.workload.workload import Workload

_NUM_EXPERTS = 16
_SIZE_STEP = 64
# Small enough that every launch finds it in the cache if it is left there.
_CACHE_FRACTION = 0.4
_WEIGHT_BYTES_MAX = 64e6


@dataclass(frozen=True, slots=True)
class Bench:
    """What every part of the audit works with."""

    device: Device
    kernel: Kernel
    seed: int
    random: np.random.Generator

    @contextmanager
    def loaded(self, l2_state: L2State) -> Iterator[Program]:
        """Yield the work as a program, with the device's cache kept cold or left warm."""
        workload = cached_workload(self.device.l2_bytes)
        with self.device.translating_errors(f"binding {self.kernel.name} to data"):
            work = self.kernel.bind(workload, self.device, l2_state=l2_state, seed=self.seed)
        program = self.device.prepare(work)
        try:
            yield program
        finally:
            program.close()


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the audit: the figures it gives, and how it finds them."""

    name: str
    figures: tuple[str, ...]
    find: Callable[[Bench], tuple[Finding, ...]]


def cached_workload(l2_bytes: int) -> Workload:
    """Return one token's work on 16 experts, whose weights together are 40 % of the cache."""
    num_bytes = min(_CACHE_FRACTION * l2_bytes, _WEIGHT_BYTES_MAX)
    num_weights = num_bytes / (3 * BYTES_PER_WEIGHT * _NUM_EXPERTS)
    size = max(_SIZE_STEP, int(num_weights**0.5) // _SIZE_STEP * _SIZE_STEP)
    return decode_workload(size, _NUM_EXPERTS)
