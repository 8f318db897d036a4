"""Claims about throttling that is planted on a simulated GPU, and about lies of its sensors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from device.sim import bench

from moeprof.device.sim.planted import NO_COUNTERS, Planted, PlantedThrottle
from moeprof.record import ClockEvent

POWER_CAP = ClockEvent.SW_POWER_CAP
THERMAL = ClockEvent.SW_THERMAL_SLOWDOWN
BRAKE = ClockEvent.HW_POWER_BRAKE_SLOWDOWN
HIGHEST_HERTZ = 2e9


def planted_device(
    *throttles: tuple[float, float, ClockEvent | None, float], **lies: Any
) -> tuple[Any, Any]:
    planted = Planted(tuple(PlantedThrottle(*each) for each in throttles), **lies)
    truth = bench.quiet_truth(
        planted=planted,
        power_window_seconds=0.05,
        power_lag_seconds=0.0,
        power_gain_error_fraction=0.0,
    )
    device = bench.device(truth)
    return device, device.prepare(bench.work())


def test_a_planted_throttle_lowers_the_clock_between_its_two_moments_only() -> None:
    device, program = planted_device((1.0, 1.25, None, 0.5), (2.0, 3.0, BRAKE, 0.8))
    clocks = {}
    for moment in (0.99, 1.01, 1.24, 1.26, 2.01, 2.99, 3.01):
        program.run(moment - device.now())
        clocks[moment] = device.state().sm_clock_hertz / HIGHEST_HERTZ

    assert clocks == {0.99: 1, 1.01: 0.5, 1.24: 0.5, 1.26: 1, 2.01: 0.8, 2.99: 0.8, 3.01: 1}


@pytest.mark.parametrize("cause", [POWER_CAP, THERMAL, BRAKE])
def test_a_throttle_is_told_by_its_reason_and_counted(cause: ClockEvent) -> None:
    device, program = planted_device((1.0, 1.5, cause, 0.7))
    program.run(1.25)
    during = device.state()
    program.run(1.0)

    assert during.clock_events == {cause}
    assert device.state().clock_events == frozenset()
    assert device.state().throttle_seconds[cause] == pytest.approx(0.5, abs=1e-3)


def test_a_slowdown_without_a_counter_has_its_reason_alone() -> None:
    device, program = planted_device((0.0, 5.0, ClockEvent.HW_SLOWDOWN, 0.7))
    program.run(1.0)

    assert device.state().clock_events == {ClockEvent.HW_SLOWDOWN}
    assert not any(device.state().throttle_seconds.values())


def test_a_power_cap_comes_with_power_at_the_limit_and_heat_with_a_hot_die() -> None:
    seen = {}
    for cause in (POWER_CAP, THERMAL, None):
        device, program = planted_device((1.0, 1.5, cause, 0.7))
        program.run(1.4)
        seen[cause] = device.state()

    limit_watts, slowdown_celsius = 700.0, bench.quiet_truth().slowdown_celsius
    assert seen[POWER_CAP].watts == pytest.approx(limit_watts, rel=0.02)
    assert seen[THERMAL].die_celsius == pytest.approx(slowdown_celsius, abs=1)
    for cause, state in seen.items():
        assert (state.watts > 0.6 * limit_watts) == (cause is POWER_CAP)
        assert (state.die_celsius > slowdown_celsius - 20) == (cause is THERMAL)


def test_silent_sensors_leave_the_clock_alone_to_tell() -> None:
    device, program = planted_device(
        (1.0, 5.0, THERMAL, 0.7), reasons_silent=True, counters_silent=True
    )
    program.run(2.0)
    state = device.state()

    assert state.clock_events == frozenset()
    assert set(state.throttle_seconds.values()) == {0.0}
    assert state.sm_clock_hertz == 0.7 * HIGHEST_HERTZ


def test_absent_counters_say_so_and_a_wrong_reason_is_told_for_the_true_one() -> None:
    device, program = planted_device(
        (1.0, 5.0, THERMAL, 0.7), counters_absent=True, wrong_reason=POWER_CAP
    )
    program.run(0.5)
    before = device.state()
    program.run(1.5)

    assert before.clock_events == frozenset()
    assert device.state().clock_events == {POWER_CAP}
    assert device.state().throttle_seconds == {}
    assert device.state().absent["throttle_seconds"] == NO_COUNTERS


def test_a_false_power_cap_is_a_reason_and_nothing_else() -> None:
    device, program = planted_device(false_power_caps=((1.0, 2.0),))
    program.run(1.5)
    state = device.state()
    program.run(1.0)

    assert state.clock_events == {POWER_CAP}
    assert state.sm_clock_hertz == HIGHEST_HERTZ
    assert not any(state.throttle_seconds.values())
    assert device.state().clock_events == frozenset()


def test_a_wandering_clock_stays_within_its_steps() -> None:
    device, program = planted_device(clock_wander_steps=2)
    program.run(0.1)
    below = {HIGHEST_HERTZ - device.state().sm_clock_hertz for _ in range(50)}

    assert below == {0.0, 15e6, 30e6}


def test_a_device_restored_inside_a_throttle_goes_on_bit_identically() -> None:
    throttles = ((0.5, 1.0, POWER_CAP, 0.6), (1.25, 2.0, ClockEvent.HW_THERMAL_SLOWDOWN, 0.9))
    undisturbed, program = planted_device(*throttles, clock_wander_steps=2)
    restored, other = planted_device(*throttles, clock_wander_steps=2)
    program.run(0.75)
    other.run(1.9)

    restored.restore(json.loads(json.dumps(undisturbed.snapshot())))

    for _ in range(6):
        results = [
            (each.sample(), each.run(0.2), on.state(), on.now())
            for on, each in ((undisturbed, program), (restored, other))
        ]
        assert results[0] == results[1]
    assert restored.snapshot() == undisturbed.snapshot()


def test_samples_and_a_run_see_the_same_throttled_seconds() -> None:
    (sampled, samples), (ran, run) = (planted_device((1.0, 1.337, BRAKE, 0.7)) for _ in range(2))
    while sampled.now() < 2.0:
        samples.sample()
    run.run(2.0)

    counted = [device.state().throttle_seconds[BRAKE] for device in (sampled, ran)]
    assert counted == pytest.approx([0.337] * 2, abs=1e-9)


def test_overlapping_throttles_are_refused() -> None:
    with pytest.raises(AssertionError, match="overlap"):
        planted_device((1.0, 2.0, None, 0.5), (1.5, 2.5, None, 0.5))
