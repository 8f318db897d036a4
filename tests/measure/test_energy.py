from __future__ import annotations

import pytest
from device.sim import bench
from fakes import FakeDevice, FakeProgram

from moeprof.conditioning.hold import reach_temperature
from moeprof.conditioning.settings import HoldSettings
from moeprof.device.sim.device import SimulatedDevice
from moeprof.device.sim.timing import launch_cost
from moeprof.device.sim.truth import truth_of
from moeprof.hardware import catalogue
from moeprof.measure.energy import measure_energy
from moeprof.measure.idle import measure_idle_power
from moeprof.measure.lead_in import lead_in_seconds
from moeprof.measure.sensor.figures import SensorFigures, SensorReport
from moeprof.measure.sensor.stream import Quantity
from moeprof.measure.settings import EnergySettings
from moeprof.measure.tick_rhythm import CHUNK_SECONDS

JOULES_PER_LAUNCH = 300 * 100e-6


def test_energy_is_joules_per_launch_under_continuous_load() -> None:
    device = FakeDevice()
    energy = measure_energy(device, FakeProgram(device), EnergySettings(), None)

    assert energy.per_launch is not None
    assert energy.per_launch.estimate == pytest.approx(JOULES_PER_LAUNCH, rel=0.01)
    assert energy.per_launch.low <= JOULES_PER_LAUNCH <= energy.per_launch.high
    assert energy.average_watts == pytest.approx(300, rel=0.01)
    assert energy.source == "simulated"


@pytest.mark.parametrize("tick_seconds", [0.001, 0.02, 0.1, 0.33])
def test_the_counters_own_period_is_found(tick_seconds: float) -> None:
    device = FakeDevice(tick_seconds=tick_seconds)
    energy = measure_energy(device, FakeProgram(device), EnergySettings(), None)

    assert energy.per_launch is not None
    assert energy.per_launch.estimate == pytest.approx(JOULES_PER_LAUNCH, rel=0.01)


def test_a_counter_slower_than_the_window_gives_no_energy_but_the_reason() -> None:
    device = FakeDevice(tick_seconds=10.0)
    energy = measure_energy(device, FakeProgram(device), EnergySettings(), None)

    assert energy.per_launch is None
    assert energy.average_watts is None
    assert "moved only" in (energy.absent_reason or "")


def test_a_window_too_short_for_the_declared_error_gives_the_reason() -> None:
    device = FakeDevice()
    settings = EnergySettings(
        relative_error_fraction=1e-5, window_seconds_min=0.5, window_seconds_max=1.0
    )
    energy = measure_energy(device, FakeProgram(device), settings, None)

    assert energy.per_launch is None
    assert "was asked" in (energy.absent_reason or "")


def test_without_a_counter_there_is_the_devices_reason() -> None:
    device = FakeDevice(energy_absent_reason="this card counts no energy")
    device.energy_counter = None
    energy = measure_energy(device, FakeProgram(device), EnergySettings(), None)

    assert energy.absent_reason == "this card counts no energy"
    idle = measure_idle_power(device, EnergySettings())
    assert idle.watts is None
    assert idle.absent_reason == "this card counts no energy"


def test_energy_that_is_not_asked_for_takes_no_time() -> None:
    device = FakeDevice()
    energy = measure_energy(device, FakeProgram(device), EnergySettings(enabled=False), None)

    assert energy.per_launch is None
    assert energy.absent_reason
    assert device.seconds == 0


def test_a_counter_that_is_reset_costs_the_window_and_not_the_result() -> None:
    class ResettingDevice(FakeDevice):
        def pass_time(self, seconds: float, *, loaded: bool) -> None:
            before = self.seconds
            super().pass_time(seconds, loaded=loaded)
            if before < 0.55 <= self.seconds:
                self.joules = 0.0
                self.shown_joules = 0.0

    device = ResettingDevice()
    energy = measure_energy(device, FakeProgram(device), EnergySettings(), None)

    assert energy.per_launch is not None
    assert energy.per_launch.estimate == pytest.approx(JOULES_PER_LAUNCH, rel=0.01)


def test_failed_reads_are_passed_over() -> None:
    device = FakeDevice()
    counter = device.energy_counter
    assert counter is not None
    honest, reads = counter.read, iter(range(10**6))
    counter.read = lambda: None if next(reads) % 5 == 0 else honest()  # type: ignore[method-assign]
    energy = measure_energy(device, FakeProgram(device), EnergySettings(), None)

    assert energy.per_launch is not None
    assert energy.per_launch.estimate == pytest.approx(JOULES_PER_LAUNCH, rel=0.01)


def test_a_held_die_stays_near_its_temperature_while_energy_is_measured() -> None:
    device = FakeDevice(time_constant_seconds=10)
    program = FakeProgram(device)
    hold = reach_temperature(device, program, HoldSettings(45))
    energy = measure_energy(device, program, EnergySettings(), hold)

    assert energy.per_launch is not None
    assert energy.per_launch.estimate == pytest.approx(JOULES_PER_LAUNCH, rel=0.01)
    assert device.celsius < 47


def test_idle_power_is_measured_asleep() -> None:
    device = FakeDevice()
    FakeProgram(device).run(1.0)
    idle = measure_idle_power(device, EnergySettings())

    assert idle.watts is not None
    assert idle.watts.estimate == pytest.approx(80, rel=0.01)
    assert idle.absent_reason is None


def test_a_lagging_counters_first_ticks_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def error_fraction() -> float:
        truth = bench.quiet_truth(counter_seconds=0.02, counter_lag_seconds=0.05)
        device = bench.device(truth)
        program = device.prepare(bench.work())
        program.run(60.0)
        device.sleep(1.0)
        true_joules = launch_cost(truth, bench.work()).total_joules(
            truth.sm_clock_hertz_max, device._body.die_celsius
        )
        settings = EnergySettings(
            relative_error_fraction=0.02, window_seconds_min=0.5, window_seconds_max=0.5
        )
        energy = measure_energy(device, program, settings, None)
        assert energy.per_launch is not None
        return abs(energy.per_launch.estimate / true_joules - 1)

    assert error_fraction() < 0.01
    monkeypatch.setattr("moeprof.measure.energy.lead_in_seconds", lambda sensors: 0.0)
    assert error_fraction() > 0.01


def test_what_was_found_of_a_sensor_decides_how_long_is_waited() -> None:
    counter = SensorFigures(
        "counter", Quantity.ENERGY, 100, 50, lag_seconds=0.02, lag_error_seconds=0.001
    )
    power = SensorFigures(
        "power", Quantity.POWER, 100, 50, window_seconds=0.025, window_error_seconds=0.004
    )
    unknown = SensorFigures("counter", Quantity.ENERGY, 100, 50)

    assert lead_in_seconds(SensorReport((power, counter), 8.0, 20)) == pytest.approx(0.05)
    assert lead_in_seconds(SensorReport((unknown,), 8.0, 20)) == lead_in_seconds(None) >= 0.15


def test_what_was_counted_before_a_reset_is_kept() -> None:
    class ResettingDevice(FakeDevice):
        def pass_time(self, seconds: float, *, loaded: bool) -> None:
            before = self.seconds
            super().pass_time(seconds, loaded=loaded)
            if before < 0.85 <= self.seconds:
                self.joules = self.shown_joules = 0.0

    device = ResettingDevice()
    settings = EnergySettings(window_seconds_min=1.0, window_seconds_max=1.0)
    energy = measure_energy(device, FakeProgram(device), settings, None)

    assert energy.per_launch is not None
    assert energy.per_launch.estimate == pytest.approx(JOULES_PER_LAUNCH, rel=0.01)
    assert device.seconds < 1.75


def test_idling_while_the_counter_is_read_is_not_charged_to_the_launches() -> None:
    device = FakeDevice()
    counter = device.energy_counter
    assert counter is not None
    honest = counter.read

    def slow_read() -> float | None:
        device.sleep(0.0005)
        return honest()

    counter.read = slow_read  # type: ignore[method-assign]
    settings = EnergySettings(relative_error_fraction=0.05)
    energy = measure_energy(device, FakeProgram(device), settings, None)

    assert energy.per_launch is not None
    assert energy.per_launch.estimate == pytest.approx(JOULES_PER_LAUNCH, rel=0.02)
    assert energy.per_launch.low <= JOULES_PER_LAUNCH <= energy.per_launch.high
    assert energy.average_watts == pytest.approx(300, rel=0.02)


def test_reads_wait_while_no_tick_is_due() -> None:
    device = FakeDevice()
    counter = device.energy_counter
    assert counter is not None
    honest, reads = counter.read, []
    counter.read = lambda: reads.append(device.seconds) or honest()  # type: ignore[func-returns-value, method-assign]
    measure_energy(device, FakeProgram(device), EnergySettings(window_seconds_min=3.0), None)

    assert len(reads) < 0.5 * device.seconds / CHUNK_SECONDS


@pytest.mark.parametrize("seed", range(6))
def test_energy_is_measured_at_a_held_temperature_though_nobody_looked_at_the_counter(
    seed: int,
) -> None:
    gpu = catalogue.gpu("h200-sxm")
    device = SimulatedDevice(gpu, truth_of(gpu), seed=seed)
    program = device.prepare(bench.work())
    program.run(60.0)
    warm_celsius = device.state().die_celsius
    assert warm_celsius is not None
    hold = reach_temperature(device, program, HoldSettings(round(warm_celsius - 4)))
    energy = measure_energy(device, program, EnergySettings(), hold)

    assert energy.absent_reason is None
    assert energy.per_launch is not None
    assert energy.per_launch.relative_half_width_fraction < 0.015
