"""Claims about an energy counter that shows what had been used some time before its tick."""

from __future__ import annotations

import itertools

import pytest
from device.sim import bench


def tick_after_a_step(*, lag_seconds: float, counter_seconds: float) -> list[tuple[float, float]]:
    """Load from 1.0 s on; return each tick with its mean watts since the last one."""
    truth = bench.quiet_truth(counter_lag_seconds=lag_seconds, counter_seconds=counter_seconds)
    device = bench.device(truth)
    program = device.prepare(bench.work())
    counter = device.energy_counter
    assert counter is not None
    device.sleep(0.5)
    ticks = [(device.now(), counter.read() or 0.0)]
    while device.now() < 1.5:
        if device.now() < 1.0:
            device.sleep(0.001)
        else:
            program.run(0.001)
        joules = counter.read() or 0.0
        if joules != ticks[-1][1]:
            ticks.append((device.now(), joules))
    pairs = itertools.pairwise(ticks[1:])
    return [(after[0], (after[1] - before[1]) / counter_seconds) for before, after in pairs]


@pytest.mark.parametrize("lag_seconds", [0.0, 0.03, 0.05, 0.2])
@pytest.mark.parametrize("counter_seconds", [0.02, 0.1])
def test_the_counter_notices_a_step_in_load_its_lag_later(
    lag_seconds: float, counter_seconds: float
) -> None:
    powers = tick_after_a_step(lag_seconds=lag_seconds, counter_seconds=counter_seconds)
    idle_watts, loaded_watts = powers[0][1], powers[-1][1]
    middle_watts = (idle_watts + loaded_watts) / 2

    first_full = next(at for at, watts in powers if watts > loaded_watts - 2)
    last_idle = max(at for at, watts in powers if watts < idle_watts + 2)

    assert middle_watts > idle_watts + 50
    # The tick's interval that holds 1.0 s + lag lies between the two.
    assert last_idle - 0.003 <= 1.0 + lag_seconds
    assert first_full >= 1.0 + lag_seconds + counter_seconds - 0.003
    assert first_full - last_idle <= 2 * counter_seconds + 0.003


def test_a_lag_changes_when_energy_is_shown_and_not_how_much() -> None:
    shown = []
    for lag_seconds in (0.0, 0.05):
        device = bench.device(bench.quiet_truth(counter_lag_seconds=lag_seconds))
        counter = device.energy_counter
        assert counter is not None
        start_joules = counter.read()
        device.prepare(bench.work()).run(10.0)
        device.sleep(0.5)
        joules = counter.read()
        assert start_joules is not None
        assert joules is not None
        shown.append((joules - start_joules, device._body.joules))

    (prompt, true), (late, _) = shown
    idle_watts = true / 10.5
    assert late < prompt
    assert prompt - late < 0.05 * idle_watts


def test_a_snapshot_between_taking_and_showing_goes_on_bit_for_bit() -> None:
    truth = bench.quiet_truth(counter_lag_seconds=0.05, counter_seconds=0.02)
    first, second = bench.device(truth), bench.device(truth)
    first.prepare(bench.work()).run(0.333)
    second.restore(first.snapshot())

    readings = []
    for device in (first, second):
        program, counter = device.prepare(bench.work()), device.energy_counter
        assert counter is not None
        joules = []
        for _ in range(200):
            program.sample()
            joules.append(counter.read())
        readings.append(joules)

    assert readings[0] == readings[1]
    assert len(set(readings[0])) > 2


def test_a_lagging_counter_that_is_reset_starts_again_from_zero_at_a_tick() -> None:
    truth = bench.quiet_truth(counter_lag_seconds=0.05, counter_reset_seconds=2.0)
    device = bench.device(truth)
    counter = device.energy_counter
    assert counter is not None
    falls, last = [], 0.0

    while device.now() < 5.0:
        device.sleep(0.001)
        joules = counter.read() or 0.0
        if joules < last:
            falls.append((device.now(), joules))
        last = joules

    assert [round(at) for at, _ in falls] == [2, 4]
    assert all(joules == pytest.approx(0.0, abs=0.002) for _, joules in falls)
