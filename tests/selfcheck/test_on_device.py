"""Claims about the audit of devices of unknown truth, tried on devices whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from moeprof.device.sim.device import SimulatedDevice
from moeprof.device.sim.faults import Faults
from moeprof.device.sim.truth import truth_of
from moeprof.hardware import catalogue
from moeprof.kernel.simulated import SimulatedKernel
from moeprof.selfcheck.finding import Finding, Verdict
from moeprof.selfcheck.on_device.audit import PARTS, audit_device
from moeprof.selfcheck.on_device.bench import Bench
from moeprof.selfcheck.on_device.cold_cache import find_cold_cache
from moeprof.selfcheck.on_device.energy import find_energy, find_sensor
from moeprof.selfcheck.on_device.equal_pairs import find_false_differences
from moeprof.selfcheck.on_device.monitor import find_monitor_effect

if TYPE_CHECKING:
    from moeprof.device.protocol import Device, Work

GPU = catalogue.gpu("h200-sxm")


def device(*, faults: Faults | None = None, **changes: Any) -> SimulatedDevice:
    truth = replace(truth_of(GPU), **changes)
    return SimulatedDevice(GPU, truth, seed=1, faults=faults or Faults())


def bench(of: Device, kernel: Any = None) -> Bench:
    return Bench(of, kernel or SimulatedKernel("torch-grouped"), 1, np.random.default_rng(1))


def by_name(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    return {each.name: each for each in findings}


def test_a_sound_device_keeps_every_promise() -> None:
    heard: list[str] = []

    found = audit_device(PARTS, device(), seed=1, on_progress=lambda name, _: heard.append(name))

    assert heard == ["warming up", *(part.name for part in PARTS)]
    assert [each.name for each in found] == [name for part in PARTS for name in part.figures]
    allowed = {Verdict.KEPT, Verdict.TOLD, Verdict.SKIPPED}
    assert {each.name: each.verdict for each in found if each.verdict not in allowed} == {}


def test_what_a_device_has_no_sensor_for_is_skipped_with_its_reason() -> None:
    of = device(faults=Faults(energy_counter_absent=True))

    found = find_energy(bench(of))

    assert {each.verdict for each in found} == {Verdict.SKIPPED}
    assert {each.detail for each in found} == {"the simulated card has no energy counter"}


def test_a_counter_that_disagrees_with_the_power_reading_is_seen() -> None:
    found = by_name(find_energy(bench(device(counter_gain_error_fraction=0.2))))

    assert found["counter_against_power_error"].verdict is Verdict.BROKEN
    assert found["counter_against_power_error"].achieved == pytest.approx(0.2, abs=0.05)
    assert found["energy_linearity_error"].verdict is Verdict.KEPT


def test_a_sensor_is_described_as_it_is() -> None:
    of = device(power_window_seconds=0.025, power_update_seconds=0.08, power_lag_seconds=0.03)

    found = by_name(find_sensor(bench(of)))

    assert found["sensor_period_seconds"].achieved == pytest.approx(0.08, rel=0.02)
    assert found["sensor_window_seconds"].achieved == pytest.approx(0.025, abs=0.005)
    assert found["sensor_lag_seconds"].achieved == pytest.approx(0.03, abs=0.005)


class Disturbed:
    """A device that works more slowly for a while after somebody has read its sensors."""

    def __init__(self, of: SimulatedDevice) -> None:
        self._device = of
        self._slow = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def state(self) -> Any:
        self._slow = True
        return self._device.state()

    def prepare(self, work: Work) -> Any:
        program, disturbed = self._device.prepare(work), self

        class Program:
            launches_per_sample = program.launches_per_sample
            num_fast = 0

            def sample(self) -> float:
                if not disturbed._slow:
                    return program.sample()
                self.num_fast += 1
                if self.num_fast == 100:
                    disturbed._slow, self.num_fast = False, 0
                return 1.02 * program.sample()

            def __getattr__(self, name: str) -> Any:
                return getattr(program, name)

        return Program()


def test_watching_that_slows_the_device_down_is_seen() -> None:
    (found,) = find_monitor_effect(bench(Disturbed(device())))

    assert found.verdict is Verdict.BROKEN
    assert found.achieved == pytest.approx(0.02, abs=0.003)


class SilentlyWarm(SimulatedKernel):
    """A kernel that leaves its data in the cache, whatever it was asked for."""

    def bind(self, workload: Any, of: Any, *, l2_state: Any, seed: int) -> Any:
        del l2_state
        return super().bind(workload, of, l2_state="warm", seed=seed)


def test_a_cold_cache_that_is_silently_warm_is_seen() -> None:
    found = by_name(find_cold_cache(bench(device(), SilentlyWarm("torch-grouped"))))

    assert found["cold_over_warm"].verdict is not Verdict.KEPT


def test_weights_that_come_faster_than_memory_can_deliver_are_seen() -> None:
    quick = {"bytes_per_second": 9e12, "launch_seconds": 0.0, "flops_per_second": {"bf16": 1e17}}
    found = by_name(find_cold_cache(bench(device(**quick))))

    assert found["cold_bandwidth_fraction"].verdict is Verdict.BROKEN


def test_a_device_that_is_slower_every_second_time_is_seen() -> None:
    of = device()
    program_of, turn = of.prepare, iter([1.0, 1.05] * 1000)

    def prepare(work: Work) -> Any:
        program = program_of(work)
        sample, factor = program.sample, [1.0]

        def stepping() -> float:
            return factor[0] * sample()

        def run(seconds: float) -> int:
            factor[0] = next(turn)
            return type(program).run(program, seconds)

        program.sample, program.run = stepping, run
        return program

    of.prepare = prepare
    (found,) = find_false_differences(bench(of))

    assert found.verdict is Verdict.BROKEN
