"""Which readings of a device show that its clock is held back, when its sensors may lie."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from moeprof.record import THROTTLING_EVENTS, ClockEvent

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from moeprof.record import DeviceState

# Clocks of an unthrottled GPU wander by a step or two of 15 MHz in about 2 GHz.
_CLOCK_DROP_FRACTION = 0.03
_CLOCK_DROP_HERTZ = 2.5 * 15e6

# Boards read their power with up to 5 % of error (arXiv 2312.02741), and cap it by that reading.
_NEAR_LIMIT_FRACTION = 0.9
# Instant power is averaged over up to 0.1 s, updated every 0.1 s, and late (arXiv 2312.02741).
POWER_SETTLED_SECONDS = 0.25
NEAR_SLOWDOWN_CELSIUS = 2.5  # governors keep a slowed die a degree or two below the threshold
_SETTLED_SHARE = 0.9  # of the readings, so that one odd reading does not decide

THERMAL_EVENTS = frozenset({ClockEvent.SW_THERMAL_SLOWDOWN, ClockEvent.HW_THERMAL_SLOWDOWN})


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a device besides its readings; None is not known.

    `sm_clock_hertz_max` is the specification's. `undisturbed_hertz` is the highest SM clock seen
    under load under the same settings, before the readings.
    """

    power_limit_watts: float | None = None
    slowdown_celsius: float | None = None
    sm_clock_hertz_max: float | None = None
    undisturbed_hertz: float | None = None


NOTHING_KNOWN = Known()


def is_idle(state: DeviceState) -> bool:
    """Return whether a reading says that the device had nothing to do, so its clock is low."""
    return state.clock_events is not None and ClockEvent.IDLE in state.clock_events


def told_throttling(state: DeviceState) -> frozenset[ClockEvent]:
    """Return the throttling events whose bits a reading has set, true or not."""
    return (state.clock_events or frozenset()) & THROTTLING_EVENTS


def is_near_limit(watts: float | None, known: Known) -> bool:
    """Return whether power is seen to be so high that a cap may act."""
    limit_watts = known.power_limit_watts
    return (
        watts is not None
        and limit_watts is not None
        and watts >= _NEAR_LIMIT_FRACTION * limit_watts
    )


def is_near_slowdown(die_celsius: float | None, known: Known) -> bool:
    """Return whether the die is seen to be so hot that a thermal slowdown may act."""
    slowdown_celsius = known.slowdown_celsius
    return (
        die_celsius is not None
        and slowdown_celsius is not None
        and die_celsius >= slowdown_celsius - NEAR_SLOWDOWN_CELSIUS
    )


def filled(states: Sequence[DeviceState]) -> list[DeviceState]:
    """Return the readings, each missing power or die temperature taken over from the one before."""
    found: list[DeviceState] = []
    for state in states:
        watts, die_celsius = state.watts, state.die_celsius
        if found and (watts is None or die_celsius is None):
            last = found[-1]
            watts = last.watts if watts is None else watts
            die_celsius = last.die_celsius if die_celsius is None else die_celsius
            found.append(replace(state, watts=watts, die_celsius=die_celsius))
        else:
            found.append(state)
    return found


def throttled_readings(
    states: Sequence[DeviceState], known: Known, resumed: Collection[int]
) -> list[bool]:
    """Return which of the filled readings show throttling; `resumed` follow a pause, by index.

    An SM clock below the undisturbed one shows it; a reason bit does where neither the clock nor
    (of a power cap) the power gives it the lie. A reading that says nothing is as those around it.
    """
    clocks = _busy_clocks(states, resumed)
    highest_hertz = max((clock for clock in clocks if clock), default=None)
    if highest_hertz is None:
        blind = [_is_believed(state, state.watts, known, unsure=True) for state in states]
        return _gaps_closed([each or None for each in blind])
    undisturbed_hertz = max(highest_hertz, known.undisturbed_hertz or 0.0)
    if _held_throughout(states, clocks, known, highest_hertz):
        return [not is_idle(state) for state in states]
    unsure = _is_unsure(states, clocks, known, highest_hertz)
    lasting_watts = _lasting_watts(states)
    shown: list[bool | None] = []
    for state, clock, watts in zip(states, clocks, lasting_watts, strict=True):
        if clock is None:
            unseen = not is_idle(state) and state.sm_clock_hertz is None
            believed = unseen and _is_believed(state, watts, known, unsure=unsure)
            shown.append(believed or (None if unseen else False))
            continue
        believed = clock < undisturbed_hertz or unsure
        believed = believed and _is_believed(state, watts, known, unsure=unsure)
        shown.append(believed or clock < _lowest_normal(undisturbed_hertz))
    return _gaps_closed(shown)


def _lowest_normal(undisturbed_hertz: float) -> float:
    drop_hertz = max(_CLOCK_DROP_FRACTION * undisturbed_hertz, _CLOCK_DROP_HERTZ)
    return undisturbed_hertz - drop_hertz


def _lasting_watts(states: Sequence[DeviceState]) -> list[float | None]:
    """Return the power that each reading shares with those soon after: a reading may come late."""
    found: list[float | None] = []
    for index, state in enumerate(states):
        watts = state.watts
        for later in states[index + 1 :]:
            if later.at_seconds > state.at_seconds + POWER_SETTLED_SECONDS:
                break
            if watts is not None and later.watts is not None:
                watts = min(watts, later.watts)
        found.append(watts)
    return found


def _is_believed(state: DeviceState, watts: float | None, known: Known, *, unsure: bool) -> bool:
    """Return whether a bit holds of which the clock does not tell; `unsure`: it could not."""
    told = told_throttling(state)
    if told != {ClockEvent.SW_POWER_CAP}:
        return bool(told)
    # Some boards tell a power cap far below their limit for as long as they run.
    if watts is None or known.power_limit_watts is None:
        return unsure
    return is_near_limit(watts, known)


def _busy_clocks(states: Sequence[DeviceState], resumed: Collection[int]) -> list[float | None]:
    """Return the clocks, None where idle or where a clock is still rising after a pause."""
    clocks = [None if is_idle(state) else state.sm_clock_hertz for state in states]
    for index in {0, *resumed}:
        if index + 1 >= len(clocks) or told_throttling(states[index]):
            continue
        here, after = clocks[index], clocks[index + 1]
        if here is not None and after is not None and here < _lowest_normal(after):
            clocks[index] = None
    return clocks


def _is_unsure(
    states: Sequence[DeviceState],
    clocks: Sequence[float | None],
    known: Known,
    highest_hertz: float,
) -> bool:
    """Return whether the highest clock may itself be throttled: it never came without a bit."""
    if known.undisturbed_hertz is not None:
        return False
    specified_hertz = known.sm_clock_hertz_max
    if specified_hertz is not None and highest_hertz >= _lowest_normal(specified_hertz):
        return False
    return all(
        told_throttling(state)
        for state, clock in zip(states, clocks, strict=True)
        if clock is not None and clock >= _lowest_normal(highest_hertz)
    )


def _held_throughout(
    states: Sequence[DeviceState],
    clocks: Sequence[float | None],
    known: Known,
    highest_hertz: float,
) -> bool:
    """Return whether power must have held one low clock all along, though no bit says so.

    A clock below the specification's alone says nothing: application clocks may be set lower. Nor
    does a die at its slowdown temperature: under them it may have come to rest there.
    """
    specified_hertz = known.sm_clock_hertz_max
    if known.undisturbed_hertz is not None or specified_hertz is None:
        return False
    busy = [
        (state, clock) for state, clock in zip(states, clocks, strict=True) if clock is not None
    ]
    is_flat = min(clock for _, clock in busy) >= _lowest_normal(highest_hertz)
    if not is_flat or highest_hertz >= _lowest_normal(specified_hertz):
        return False
    if any(ClockEvent.APPLICATIONS_CLOCKS in (state.clock_events or ()) for state, _ in busy):
        return False
    num_pressed = sum(_is_pressed(state, known) for state, _ in busy)
    return num_pressed >= _SETTLED_SHARE * len(busy)


def _is_pressed(state: DeviceState, known: Known) -> bool:
    """Return whether power is at its limit, and no counter could have told."""
    uncounted = ClockEvent.SW_POWER_CAP not in state.throttle_seconds
    return uncounted and is_near_limit(state.watts, known)


def _gaps_closed(shown: Sequence[bool | None]) -> list[bool]:
    """Return the readings with each None as the known ones on both its sides, False if unlike."""
    before: list[bool] = []
    for each in shown:
        before.append(each if each is not None else bool(before and before[-1]))
    after: list[bool] = []
    for each in reversed(shown):
        after.append(each if each is not None else bool(after and after[-1]))
    return [one and other for one, other in zip(before, reversed(after), strict=True)]
