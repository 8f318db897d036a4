"""Claims about static power at the load's temperature, and the parts of a launch's energy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from device.sim import bench
from fakes import FakeDevice

from moeprof.device.sim.power import leakage_watts
from moeprof.device.sim.timing import launch_cost
from moeprof.measure.energy import measure_energy
from moeprof.measure.energy_parts import split_energy
from moeprof.measure.idle import IdlePower, measure_idle_power
from moeprof.measure.settings import EnergySettings
from moeprof.measure.static_power import StaticPower, measure_static_power
from moeprof.record import Energy, Interval

if TYPE_CHECKING:
    from moeprof.device.sim.truth import Truth

SETTINGS = EnergySettings()


def static_watts(truth: Truth, celsius: float) -> float:
    return truth.idle_watts + leakage_watts(truth, celsius)


def truth_with(die_seconds: float, **changes: float) -> Truth:
    truth = bench.quiet_truth(leakage_watts=60.0, **changes)
    return bench.quiet_truth(
        leakage_watts=60.0,
        die_joules_per_celsius=die_seconds / truth.die_celsius_per_watt,
        **changes,
    )


@pytest.mark.parametrize("die_seconds", [3.0, 30.0])
def test_static_power_is_that_of_the_loads_temperature_and_not_of_a_cooler_die(
    die_seconds: float,
) -> None:
    truth = truth_with(die_seconds)
    device = bench.device(truth)
    device.prepare(bench.work()).run(120.0)
    hot_celsius = device._body.die_celsius

    static = measure_static_power(device, SETTINGS)

    assert static.watts is not None
    assert static.watts.estimate == pytest.approx(static_watts(truth, hot_celsius), rel=0.005)
    assert static.watts.low <= static_watts(truth, hot_celsius) <= static.watts.high
    assert static.die_celsius == pytest.approx(hot_celsius, abs=1.0)
    if die_seconds < 10:  # idling for as long, unlike that, sees a die that has cooled
        cooler_watts = static_watts(truth, device._body.die_celsius)
        assert cooler_watts < 0.97 * static.watts.estimate


def test_leakage_per_degree_is_found_where_the_die_cools_enough() -> None:
    truth = truth_with(3.0)
    device = bench.device(truth)
    device.prepare(bench.work()).run(120.0)
    hot_celsius = device._body.die_celsius

    slope = measure_static_power(device, SETTINGS).watts_per_celsius

    cool_celsius = device._body.die_celsius
    rise = static_watts(truth, hot_celsius) - static_watts(truth, cool_celsius)
    assert slope is not None
    assert slope.low <= rise / (hot_celsius - cool_celsius) <= slope.high
    assert slope.estimate == pytest.approx(rise / (hot_celsius - cool_celsius), rel=0.15)


def test_a_die_that_hardly_cools_gives_no_slope_but_the_reason() -> None:
    device = bench.device(truth_with(100.0))
    device.prepare(bench.work()).run(60.0)

    static = measure_static_power(device, SETTINGS)

    assert static.watts is not None
    assert static.watts_per_celsius is None
    assert "cooled by" in static.absent["watts_per_celsius"]


def test_a_reset_while_the_die_cools_does_not_matter() -> None:
    truth = truth_with(3.0, counter_reset_seconds=1.7)
    device = bench.device(truth)
    device.prepare(bench.work()).run(120.0)
    true_watts = static_watts(truth, device._body.die_celsius)

    static = measure_static_power(device, SETTINGS)

    assert static.watts is not None
    assert static.watts.estimate == pytest.approx(true_watts, rel=0.01)


def test_without_a_counter_there_is_the_devices_reason() -> None:
    device = FakeDevice(energy_absent_reason="this card counts no energy")
    device.energy_counter = None

    static = measure_static_power(device, SETTINGS)

    assert static.watts is None
    assert static.absent["watts"] == "this card counts no energy"
    assert measure_idle_power(device, SETTINGS).absent_reason == "this card counts no energy"


def test_a_launch_divides_into_rest_leakage_and_work() -> None:
    truth = truth_with(3.0)
    device = bench.device(truth)
    rest_celsius = device._body.die_celsius
    rest = measure_idle_power(device, SETTINGS)
    program = device.prepare(bench.work())
    program.run(120.0)
    energy = measure_energy(device, program, SETTINGS, None)
    hot_celsius = device._body.die_celsius

    parts = split_energy(energy, measure_static_power(device, SETTINGS), rest)

    cost = launch_cost(truth, bench.work())
    seconds = cost.seconds(truth.sm_clock_hertz_max, hot_celsius)
    dynamic_joules = cost.dynamic_watts(truth.sm_clock_hertz_max, seconds) * seconds
    rest_joules = static_watts(truth, rest_celsius) * seconds
    leakage_joules = static_watts(truth, hot_celsius) * seconds - rest_joules
    assert parts.idle is not None
    assert parts.leakage is not None
    assert parts.dynamic is not None
    assert parts.idle.estimate == pytest.approx(rest_joules, rel=0.01)
    assert parts.leakage.estimate == pytest.approx(leakage_joules, rel=0.05)
    assert parts.dynamic.estimate == pytest.approx(dynamic_joules, rel=0.01)
    for part, true in (
        (parts.idle, rest_joules),
        (parts.leakage, leakage_joules),
        (parts.dynamic, dynamic_joules),
    ):
        assert part.low <= true <= part.high


def test_the_parts_of_a_launch_sum_to_its_energy_or_say_what_is_missing() -> None:
    energy = Energy(Interval(3.0, 2.9, 3.1, 0.95), 300.0, "simulated")
    static = StaticPower(Interval(100.0, 99.0, 101.0, 0.95), 60.0, None, {})
    rest = IdlePower(Interval(80.0, 79.0, 81.0, 0.95), 35.0)
    parts = split_energy(energy, static, rest)
    missing = split_energy(energy, static, IdlePower(None, absent_reason="not at rest"))

    assert parts.idle is not None
    assert parts.leakage is not None
    assert parts.dynamic is not None
    assert [p.estimate for p in (parts.idle, parts.leakage, parts.dynamic)] == pytest.approx(
        [0.8, 0.2, 2.0]
    )
    assert missing.dynamic is None
    assert missing.absent_reason == "not at rest"
