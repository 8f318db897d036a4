"""Claims about what a simulated GPU's sensors and energy counter show."""

from __future__ import annotations

import itertools
import statistics
from typing import TYPE_CHECKING

import pytest
from device.sim import bench
from hypothesis import given, settings
from hypothesis import strategies as st

from moeprof.device.sim.sensors import DROPPED, NO_MEMORY_CLOCK

if TYPE_CHECKING:
    from moeprof.device.sim.device import SimulatedDevice


def counter_joules(device: SimulatedDevice) -> float:
    assert device.energy_counter is not None
    joules = device.energy_counter.read()
    assert joules is not None
    return joules


@settings(max_examples=25, deadline=None)
@given(
    stretches=st.lists(st.tuples(st.booleans(), st.floats(0.001, 3.0)), min_size=1, max_size=20),
    counter_seconds=st.sampled_from([0.02, 0.1]),
)
def test_energy_counter_equals_integrated_true_power_up_to_one_tick(
    stretches: list[tuple[bool, float]], counter_seconds: float
) -> None:
    device = bench.device(bench.quiet_truth(counter_seconds=counter_seconds))
    program = device.prepare(bench.work())
    start_joules = counter_joules(device)

    for busy, seconds in stretches:
        if busy:
            program.run(seconds)
        else:
            device.sleep(seconds)

    lag_joules = device._body.joules - (counter_joules(device) - start_joules)
    tick_joules = bench.CARD.power_limit_watts * counter_seconds  # type: ignore[operator]
    assert -0.002 <= lag_joules <= tick_joules


def test_the_counter_moves_only_at_its_ticks() -> None:
    device = bench.device()
    program = device.prepare(bench.work())
    changes = []
    last_joules = counter_joules(device)

    while device.now() < 5.0:
        program.sample()
        if (joules := counter_joules(device)) != last_joules:
            changes.append(device.now())
            last_joules = joules

    gaps = [after - before for before, after in itertools.pairwise(changes)]
    assert len(changes) == pytest.approx(50, abs=1)
    assert statistics.mean(gaps) == pytest.approx(0.1, abs=0.002)


def test_a_window_between_two_ticks_gives_the_true_power() -> None:
    device = bench.device()
    program = device.prepare(bench.work())
    program.run(900.0)
    watts = []
    for _ in range(2):
        last_joules = counter_joules(device)
        while (joules := counter_joules(device)) == last_joules:
            program.sample()
        watts.append((device.now(), joules))
        program.run(5.0)
    true_joules, true_seconds = device._body.joules, device.now()
    program.run(1.0)
    true_watts = (device._body.joules - true_joules) / (device.now() - true_seconds)

    (start, start_joules), (end, end_joules) = watts
    assert (end_joules - start_joules) / (end - start) == pytest.approx(true_watts, rel=0.005)


def test_a_reset_counter_starts_again_from_zero() -> None:
    device = bench.device(bench.quiet_truth(counter_reset_seconds=10.0))

    device.sleep(9.0)
    before = counter_joules(device)
    device.sleep(2.0)

    assert counter_joules(device) < 2 * 100.0 < before


def test_the_counters_gain_error_scales_its_steps() -> None:
    true, wrong = (
        bench.device(bench.quiet_truth(counter_gain_error_fraction=gain)) for gain in (0.0, 0.05)
    )
    steps = []
    for device in (true, wrong):
        start_joules = counter_joules(device)
        device.sleep(100.0)
        steps.append(counter_joules(device) - start_joules)

    assert steps[1] == pytest.approx(1.05 * steps[0], rel=1e-5)


def test_the_power_reading_lags_behind_a_step_in_load() -> None:
    device = bench.device(bench.quiet_truth(power_gain_error_fraction=0.0))
    program = device.prepare(bench.work())
    idle_watts = device.state().watts
    program.run(0.6)
    rising_watts = device.state().watts
    program.run(60.0)
    joules, seconds = device._body.joules, device.now()
    program.run(1.0)
    true_watts = (device._body.joules - joules) / (device.now() - seconds)

    settled_watts = device.state().watts

    assert idle_watts is not None
    assert rising_watts is not None
    assert idle_watts + 10 < rising_watts < true_watts - 50
    assert settled_watts == pytest.approx(true_watts, rel=1e-3)


def test_the_power_readings_gain_error_is_not_seen_in_the_counter() -> None:
    device = bench.device(bench.quiet_truth(power_gain_error_fraction=0.05))
    device.sleep(10.0)
    start_joules = counter_joules(device)

    device.sleep(100.0)

    counter_watts = (counter_joules(device) - start_joules) / 100.0
    assert device.state().watts == pytest.approx(1.05 * counter_watts, rel=0.002)


def test_temperatures_are_whole_degrees() -> None:
    device = bench.device()
    device.prepare(bench.work()).run(7.0)

    state = device.state()

    assert state.die_celsius == round(device._body.die_celsius)
    assert state.memory_celsius is not None
    assert state.memory_celsius.is_integer()


def test_a_dropped_read_is_none_with_its_reason() -> None:
    device = bench.device(bench.quiet_truth(dropped_reads_fraction=1.0))

    state = device.state()

    assert state.die_celsius is None
    assert state.watts is None
    assert state.clock_events is None
    assert state.throttle_seconds == {}
    assert len(state.absent) == 7
    assert set(state.absent.values()) == {DROPPED}
    assert device.energy_counter is not None
    assert device.energy_counter.read() is None


def test_reads_are_dropped_as_often_as_the_truth_says() -> None:
    device = bench.device(bench.quiet_truth(dropped_reads_fraction=0.1))

    num_dropped = sum(device.state().die_celsius is None for _ in range(2000))

    assert num_dropped == pytest.approx(200, abs=60)


def test_a_memory_clock_that_is_not_specified_is_absent() -> None:
    state = bench.device(bench.quiet_truth(memory_clock_hertz=None)).state()

    assert state.memory_clock_hertz is None
    assert state.absent == {"memory_clock_hertz": NO_MEMORY_CLOCK}


def test_reading_takes_time_so_that_waiting_for_a_tick_ends() -> None:
    device = bench.device()
    first_joules = counter_joules(device)

    while counter_joules(device) == first_joules:
        assert device.now() < 1.0

    assert device.now() > 0.0
