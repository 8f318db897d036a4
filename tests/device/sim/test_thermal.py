"""Claims about the heat of a simulated GPU."""

from __future__ import annotations

import pytest
from device.sim import bench

from moeprof.device.sim.power import leakage_watts
from moeprof.device.sim.thermal import ThermalNetwork


def test_temperature_settles_at_power_times_thermal_resistance() -> None:
    truth = bench.truth()

    die, sink = ThermalNetwork(truth).after(1e5, 30.0, 30.0, 500.0)

    assert sink == pytest.approx(truth.ambient_celsius + 500 * truth.heatsink_celsius_per_watt)
    assert die == pytest.approx(sink + 500 * truth.die_celsius_per_watt)


def test_many_short_steps_end_where_one_long_step_ends() -> None:
    network = ThermalNetwork(bench.truth())
    state = (35.0, 33.0)

    for _ in range(1000):
        state = network.after(0.03, *state, 450.0)

    assert state == pytest.approx(network.after(30.0, 35.0, 33.0, 450.0), rel=1e-9)


def test_a_step_agrees_with_the_differential_equation() -> None:
    truth = bench.truth()
    step_seconds, die, sink, watts = 1e-5, 60.0, 45.0, 600.0

    after_die, after_sink = ThermalNetwork(truth).after(step_seconds, die, sink, watts)

    to_sink_watts = (die - sink) / truth.die_celsius_per_watt
    to_air_watts = (sink - truth.ambient_celsius) / truth.heatsink_celsius_per_watt
    die_rate = (watts - to_sink_watts) / truth.die_joules_per_celsius
    sink_rate = (to_sink_watts - to_air_watts) / truth.heatsink_joules_per_celsius
    assert (after_die - die) / step_seconds == pytest.approx(die_rate, rel=1e-4)
    assert (after_sink - sink) / step_seconds == pytest.approx(sink_rate, rel=1e-4)


def test_an_idle_device_stays_at_the_temperature_it_opens_with() -> None:
    device = bench.device()
    celsius = device._body.die_celsius

    device.sleep(600.0)

    assert device._body.die_celsius == pytest.approx(celsius, abs=1e-6)


def test_a_warmer_die_leaks_more() -> None:
    truth = bench.truth()

    assert leakage_watts(truth, truth.reference_celsius) == truth.leakage_watts
    assert leakage_watts(truth, truth.reference_celsius + 25) > 1.9 * truth.leakage_watts


def test_duty_cycled_load_holds_a_temperature_between_idle_and_full_load() -> None:
    device = bench.device()
    program = device.prepare(bench.work(bench.DENSE_ROWS))
    reached = []

    for _ in range(3000):
        if device._body.sink_celsius < 50.0:
            program.run(0.1)
        else:
            device.sleep(0.1)
        reached.append(device._body.sink_celsius)

    assert reached[-500:] == pytest.approx([50.0] * 500, abs=0.2)
