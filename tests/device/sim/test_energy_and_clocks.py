"""Claims about the power, the clock governor and the energy of a simulated GPU."""

from __future__ import annotations

import pytest
from device.sim import bench

from moeprof.device.sim.timing import launch_cost
from moeprof.record import ClockEvent

POWER_CAP = ClockEvent.SW_POWER_CAP
THERMAL = ClockEvent.SW_THERMAL_SLOWDOWN


def test_power_capped_work_is_flagged_with_its_cause() -> None:
    device = bench.device()
    program = device.prepare(bench.work(bench.DENSE_ROWS))
    program.run(20.0)
    before = device.state()

    program.run(5.0)

    after = device.state()
    assert after.clock_events == frozenset({POWER_CAP})
    assert after.sm_clock_hertz is not None
    assert after.sm_clock_hertz < bench.truth().sm_clock_hertz_max
    capped_seconds = after.throttle_seconds[POWER_CAP] - before.throttle_seconds[POWER_CAP]
    assert capped_seconds == pytest.approx(5.0, abs=0.02)
    assert after.throttle_seconds[THERMAL] == 0.0


def test_the_governor_holds_the_power_limit() -> None:
    device = bench.device()
    program = device.prepare(bench.work(bench.DENSE_ROWS))
    program.run(60.0)
    start_seconds, start_joules = device.now(), device._body.joules

    program.run(10.0)

    watts = (device._body.joules - start_joules) / (device.now() - start_seconds)
    assert watts == pytest.approx(700.0, rel=0.03)


def test_a_hot_die_is_slowed_with_its_cause() -> None:
    device = bench.device(bench.quiet_truth(slowdown_celsius=60.0))
    program = device.prepare(bench.work(bench.DENSE_ROWS))

    program.run(120.0)

    state = device.state()
    assert state.clock_events is not None
    assert THERMAL in state.clock_events
    assert state.throttle_seconds[THERMAL] > 50.0
    assert device._body.die_celsius == pytest.approx(60.0, abs=2.0)


def test_decode_is_not_throttled() -> None:
    device = bench.device()

    device.prepare(bench.work()).run(60.0)

    assert device.state().clock_events == frozenset()
    assert not any(device.state().throttle_seconds.values())


def test_a_capped_clock_recovers_when_the_load_is_light() -> None:
    device = bench.device()
    light = device.prepare(bench.work())
    device.prepare(bench.work(bench.DENSE_ROWS)).run(20.0)

    light.run(10.0)

    assert device.state().sm_clock_hertz == bench.CARD.sm_clock_hertz_max


def test_an_idle_card_lowers_its_clock_and_says_why() -> None:
    device = bench.device()
    device.prepare(bench.work()).run(1.0)
    busy = device.state()

    device.sleep(1.0)

    idle = device.state()
    assert busy.clock_events == frozenset()
    assert idle.clock_events == frozenset({ClockEvent.IDLE})
    assert idle.sm_clock_hertz == bench.truth().idle_sm_clock_hertz


@pytest.mark.parametrize("rows", [bench.DECODE_ROWS, bench.DENSE_ROWS])
def test_samples_and_a_run_agree_on_time_energy_and_clock(rows: tuple[int, ...]) -> None:
    sampled, ran = bench.device(), bench.device()
    by_sample, by_run = (each.prepare(bench.work(rows)) for each in (sampled, ran))
    by_run.run(10.0)
    by_sample.run(10.0)

    num_launches = by_run.run(2.0)
    for _ in range(num_launches // by_sample.launches_per_sample):
        by_sample.sample()

    assert sampled.now() == pytest.approx(ran.now(), rel=0.01)
    assert sampled._body.joules == pytest.approx(ran._body.joules, rel=0.01)
    assert sampled._body.die_celsius == pytest.approx(ran._body.die_celsius, abs=1.0)
    step_hertz = bench.truth().sm_clock_step_hertz
    clocks = [each._body.governor.sm_clock_hertz for each in (sampled, ran)]
    assert clocks[0] == pytest.approx(clocks[1], abs=3 * step_hertz)


def test_a_steady_launch_costs_the_joules_that_the_truth_says() -> None:
    truth = bench.quiet_truth()
    device = bench.device(truth)
    program = device.prepare(bench.work())
    program.run(900.0)
    start_joules = device._body.joules

    num_launches = program.run(5.0)

    true_joules = launch_cost(truth, bench.work()).total_joules(
        truth.sm_clock_hertz_max, device._body.die_celsius
    )
    measured_joules = (device._body.joules - start_joules) / num_launches
    assert measured_joules == pytest.approx(true_joules, rel=1e-6)


def test_a_run_ends_with_a_whole_launch() -> None:
    device = bench.device()
    program = device.prepare(bench.work())
    launch_seconds = program.sample()
    start_seconds = device.now()

    num_launches = program.run(2.5 * launch_seconds)

    assert num_launches == 3
    assert device.now() - start_seconds == pytest.approx(3 * launch_seconds)


def test_a_thousand_virtual_seconds_take_a_step_per_governor_decision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = bench.device()
    program = device.prepare(bench.work())
    stretches = []
    stretch = device._body._stretch

    def counted(end_seconds: float, dynamic_watts: float, *, busy: bool) -> None:
        stretches.append(end_seconds)
        stretch(end_seconds, dynamic_watts, busy=busy)

    monkeypatch.setattr(device._body, "_stretch", counted)

    program.run(1000.0)

    num_decisions = 1000.0 / bench.truth().governor_seconds
    assert len(stretches) == pytest.approx(num_decisions, rel=0.01)
    assert len(device._body.history.snapshot()["joules"]) < 1100
