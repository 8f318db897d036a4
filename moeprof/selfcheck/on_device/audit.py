"""The audit of a real device: which parts there are, run one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moeprof.kernel.opening import open_kernel
from moeprof.selfcheck.on_device.bench import Bench, Part
from moeprof.selfcheck.on_device.cold_cache import BANDWIDTH, RATIO, find_cold_cache
from moeprof.selfcheck.on_device.energy import LINEAR, SAME, SENSOR, find_energy, find_sensor
from moeprof.selfcheck.on_device.equal_pairs import PROMISE as NO_DIFFERENCE
from moeprof.selfcheck.on_device.equal_pairs import find_false_differences
from moeprof.selfcheck.on_device.monitor import PROMISE as NO_EFFECT
from moeprof.selfcheck.on_device.monitor import find_monitor_effect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from moeprof.device.protocol import Device
    from moeprof.selfcheck.finding import Finding

KERNEL = "torch-grouped"
_WARM_UP_SECONDS = 30.0

PARTS: tuple[Part, ...] = (
    Part("equal_pairs", (NO_DIFFERENCE.name,), find_false_differences),
    Part("energy", (LINEAR.name, SAME.name), find_energy),
    Part("sensor", SENSOR, find_sensor),
    Part("monitor", (NO_EFFECT.name,), find_monitor_effect),
    Part("cold_cache", (RATIO.name, BANDWIDTH.name), find_cold_cache),
)


def audit_device(
    parts: Sequence[Part], device: Device, *, seed: int, on_progress: Callable[[str, int], None]
) -> tuple[Finding, ...]:
    """Warm the device for half a minute and run the parts.

    `on_progress` hears of every part, with its number from 0, before it begins. Raises DeviceLost,
    and DeviceOutOfMemory or KernelUnsupported where the device cannot run the audit's own work.
    """
    bench = Bench(device, open_kernel(KERNEL, device), seed, np.random.default_rng(seed))
    on_progress("warming up", 0)
    with bench.loaded("cold") as program:
        program.run(_WARM_UP_SECONDS)
    findings: list[Finding] = []
    for number, part in enumerate(parts):
        on_progress(part.name, number)
        findings.extend(part.find(bench))
    return tuple(findings)
