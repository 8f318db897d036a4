"""Claims about the throttle watch: which readings it believes, and when it names a cause."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import FakeDevice, FakeProgram

from moeprof.measure.settings import StoppingSettings
from moeprof.measure.throttle import throttling
from moeprof.measure.throttle_readings import Known
from moeprof.measure.timing import measure_latency
from moeprof.record import ClockEvent, DeviceState

IDLE, POWER_CAP = ClockEvent.IDLE, ClockEvent.SW_POWER_CAP
THERMAL, HARD_THERMAL = ClockEvent.SW_THERMAL_SLOWDOWN, ClockEvent.HW_THERMAL_SLOWDOWN
SLOWDOWN, BRAKE = ClockEvent.HW_SLOWDOWN, ClockEvent.HW_POWER_BRAKE_SLOWDOWN
TOP = 1.98e9
POLL = 0.02
KNOWN = Known(power_limit_watts=700.0, slowdown_celsius=87.0, sm_clock_hertz_max=TOP)
NUM = 100
DURING = range(40, 80)  # from 0.8 s on, until 1.6 s


def readings(during: dict[str, Any], indices: range = DURING, **always: Any) -> list[DeviceState]:
    usual: dict[str, Any] = {
        "sm_clock_hertz": TOP,
        "watts": 300.0,
        "die_celsius": 60.0,
        "memory_celsius": 65.0,
        "clock_events": frozenset(),
    }
    return [
        DeviceState(index * POLL, **(usual | always | (during if index in indices else {})))
        for index in range(NUM)
    ]


def counting(event: ClockEvent, states: list[DeviceState], late: float = 0.0) -> list[DeviceState]:
    """Let a counter grow from 0.8 s + late on until 1.6 s."""
    for state in states:
        grown = min(max(state.at_seconds - 0.8 - late, 0.0), 0.8 - late)
        state.throttle_seconds[event] = 5.0 + grown
    return states


def only_event(states: list[DeviceState], known: Known = KNOWN) -> Any:
    (event,) = throttling(states, known).events
    return event


def test_a_lower_clock_is_a_throttle_from_its_start_to_its_end() -> None:
    event = only_event(readings({"sm_clock_hertz": 0.9 * TOP}))

    assert event.start_seconds == pytest.approx(0.8, abs=POLL)
    assert event.end_seconds == pytest.approx(1.6, abs=POLL)
    assert (event.cause, event.told) == (None, False)


def test_a_false_power_cap_far_below_the_limit_is_no_throttle() -> None:
    told = {"clock_events": frozenset({POWER_CAP})}

    assert throttling(readings(told), KNOWN).events == ()
    assert throttling(readings(told, range(NUM)), KNOWN).events == ()


def test_a_power_cap_near_the_limit_is_a_throttle_at_a_step_below_the_top() -> None:
    capped = {
        "clock_events": frozenset({POWER_CAP}),
        "watts": 690.0,
        "sm_clock_hertz": TOP - 15e6,
    }
    event = only_event(readings(capped))

    assert (event.cause, event.told) == (POWER_CAP, True)


@pytest.mark.parametrize("event", [BRAKE, THERMAL, POWER_CAP])
def test_a_reason_at_the_highest_clock_is_no_throttle(event: ClockEvent) -> None:
    states = readings({"clock_events": frozenset({event}), "watts": 690.0})

    assert throttling(states, KNOWN).events == ()


def test_power_that_is_read_late_does_not_prolong_a_throttle() -> None:
    states = readings({"sm_clock_hertz": 0.8 * TOP, "watts": 690.0}, range(40, 60))
    late = readings({"watts": 690.0, "sm_clock_hertz": TOP - 15e6}, range(60, 68))
    told = [
        DeviceState(
            state.at_seconds,
            sm_clock_hertz=state.sm_clock_hertz,
            watts=state.watts,
            clock_events=frozenset({POWER_CAP}),
        )
        for state in states[:60] + late[60:]
    ]

    assert only_event(told).end_seconds == pytest.approx(1.2, abs=POLL)


def test_a_clock_that_wanders_by_two_steps_is_no_throttle() -> None:
    for top in (0.9e9, TOP, 2.6e9):
        states = readings({"sm_clock_hertz": top - 30e6}, sm_clock_hertz=top)

        assert throttling(states, KNOWN).events == ()


def test_application_clocks_below_the_highest_are_no_throttle() -> None:
    states = readings({}, sm_clock_hertz=0.7 * TOP)

    assert throttling(states, KNOWN).events == ()


def test_a_throttle_from_end_to_end_is_seen_against_a_remembered_clock() -> None:
    states = readings({}, sm_clock_hertz=0.7 * TOP)
    known = Known(undisturbed_hertz=TOP)

    event = only_event(states, known)
    assert (event.start_seconds, event.end_seconds) == (0.0, states[-1].at_seconds)


def test_a_low_clock_at_the_power_limit_from_end_to_end_is_a_throttle() -> None:
    states = readings({}, sm_clock_hertz=0.7 * TOP, watts=690.0)
    lowered = frozenset({ClockEvent.APPLICATIONS_CLOCKS})
    set_lower = readings({}, sm_clock_hertz=0.7 * TOP, clock_events=lowered, watts=690.0)
    counted = counting(POWER_CAP, readings({}, sm_clock_hertz=0.7 * TOP, watts=690.0), late=0.8)

    assert only_event(states).cause is POWER_CAP
    assert throttling(set_lower, KNOWN).events == ()
    assert throttling(counted, KNOWN).events == ()


def test_a_die_that_rests_at_its_slowdown_temperature_under_lowered_clocks_is_no_throttle() -> None:
    states = readings({}, sm_clock_hertz=0.7 * TOP, die_celsius=87.0)

    assert throttling(states, KNOWN).events == ()


def test_bits_from_end_to_end_of_a_low_clock_are_believed() -> None:
    states = readings({}, sm_clock_hertz=0.7 * TOP, clock_events=frozenset({BRAKE}))

    assert only_event(states).cause is BRAKE


def test_a_counter_sees_a_throttle_between_two_readings_and_tells_its_length() -> None:
    states = readings({})
    for state in states:
        state.throttle_seconds[BRAKE] = 1.0 if state.at_seconds < 1.0 else 1.006
    event = only_event(states)

    assert event.end_seconds - event.start_seconds == pytest.approx(0.006)
    assert (event.cause, event.told) == (BRAKE, True)


def test_a_counter_tells_the_start_to_better_than_a_poll() -> None:
    lower = readings({"sm_clock_hertz": 0.8 * TOP}, range(41, 80))
    event = only_event(counting(BRAKE, lower, late=0.003))

    assert event.start_seconds == pytest.approx(0.803)


def test_counters_come_before_reasons() -> None:
    low = {"sm_clock_hertz": 0.8 * TOP, "clock_events": frozenset({SLOWDOWN})}
    event = only_event(counting(HARD_THERMAL, readings(low)))

    assert (event.cause, event.told) == (HARD_THERMAL, True)


@pytest.mark.parametrize(("grown_seconds", "cause"), [(0.1, None), (0.0, THERMAL)])
def test_a_counter_that_stands_still_refutes_its_cause_where_another_moves(
    grown_seconds: float, cause: ClockEvent | None
) -> None:
    low = {"sm_clock_hertz": 0.8 * TOP, "die_celsius": 87.0}
    states = readings(low | {"clock_events": frozenset({THERMAL})})
    for state in states:
        state.throttle_seconds[THERMAL] = 3.0
        state.throttle_seconds[BRAKE] = 1.0 + grown_seconds * (state.at_seconds > 0.5)

    assert throttling(states, KNOWN).events[-1].cause is cause


@pytest.mark.parametrize(
    ("shown", "cause"),
    [
        ({"watts": 680.0}, POWER_CAP),
        ({"die_celsius": 86.0}, THERMAL),
        ({}, None),
    ],
)
def test_a_silent_cause_is_inferred_from_power_or_heat_and_said_to_be(
    shown: dict[str, float], cause: ClockEvent | None
) -> None:
    event = only_event(readings({"sm_clock_hertz": 0.8 * TOP} | shown))

    assert (event.cause, event.told) == (cause, False)


@pytest.mark.parametrize(
    ("told", "shown", "cause"),
    [
        (POWER_CAP, {"die_celsius": 87.0}, THERMAL),
        (THERMAL, {"watts": 690.0}, POWER_CAP),
        (POWER_CAP, {}, None),
        (THERMAL, {}, None),
    ],
)
def test_a_reason_that_power_and_heat_contradict_is_not_the_cause(
    told: ClockEvent, shown: dict[str, float], cause: ClockEvent | None
) -> None:
    low = {"sm_clock_hertz": 0.8 * TOP, "clock_events": frozenset({told})}
    event = only_event(readings(low | shown))

    assert (event.cause, event.told) == (cause, False)


def test_hot_memory_may_be_why_a_cool_die_is_slowed() -> None:
    low = {"sm_clock_hertz": 0.8 * TOP, "clock_events": frozenset({THERMAL})}

    assert only_event(readings(low, memory_celsius=95.0)).cause is THERMAL


def test_a_reason_that_is_told_of_one_throttle_is_missed_in_another() -> None:
    low = {"sm_clock_hertz": 0.8 * TOP, "die_celsius": 87.0}
    states = readings(low | {"clock_events": frozenset({THERMAL})}, range(20, 40))
    states[60:] = readings(low, range(60, 80))[60:]

    assert [event.cause for event in throttling(states, KNOWN).events] == [THERMAL, None]


def test_the_more_particular_of_two_reasons_is_the_cause() -> None:
    both = {"sm_clock_hertz": 0.8 * TOP, "clock_events": frozenset({SLOWDOWN, BRAKE})}

    assert only_event(readings(both)).cause is BRAKE


def test_a_reading_that_failed_does_not_cut_a_throttle_in_two() -> None:
    states = readings({"sm_clock_hertz": 0.8 * TOP})
    states[60] = DeviceState(states[60].at_seconds)

    assert only_event(states).end_seconds == pytest.approx(1.6, abs=POLL)


def test_an_idle_clock_and_one_that_rises_after_a_pause_are_no_throttle() -> None:
    idle = readings({"sm_clock_hertz": 0.3e9, "clock_events": frozenset({IDLE})})
    rising = readings({"sm_clock_hertz": 0.5 * TOP, "clock_events": None}, range(50, 51))

    assert throttling(idle, KNOWN).events == ()
    assert throttling(rising, KNOWN, resumed=[50]).events == ()
    assert len(throttling(rising, KNOWN).events) == 1


def test_samples_carry_their_cause_and_the_readings_their_throttles() -> None:
    def throttle(reading: dict[str, Any], at: float) -> None:
        if 0.5 <= at < 0.8:
            reading.update(sm_clock_hertz=1.2e9, clock_events=frozenset({BRAKE}))

    device = FakeDevice(edit=throttle)
    settings = StoppingSettings(relative_half_width_fraction=1e-9, seconds_max=1.0)
    latency, found = measure_latency(
        device, FakeProgram(device, latencies=iter([1e-4, 1.1e-4] * 1000)), settings, None
    )

    assert latency is not None
    (event,) = found.throttle_events
    assert event.start_seconds == pytest.approx(0.5, abs=1.1 * POLL)
    assert {sample.throttle_cause for sample in latency.samples if sample.throttled} == {BRAKE}
    assert {sample.throttle_cause for sample in latency.samples if not sample.throttled} == {None}


def test_a_timing_knows_the_clock_that_it_is_told() -> None:
    low = FakeDevice(edit=lambda reading, at: reading.update(sm_clock_hertz=1.4e9))
    settings = StoppingSettings(relative_half_width_fraction=1e-9, seconds_max=0.2)
    fractions = [
        measure_latency(low, FakeProgram(low), settings, None, undisturbed_hertz=hertz)[1]
        for hertz in (None, TOP)
    ]

    assert [each.throttled_fraction for each in fractions] == [0.0, 1.0]
