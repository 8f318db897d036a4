"""The physical state of a simulated GPU, and how time changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moeprof.device.sim.counter import TickingCounter
from moeprof.device.sim.governor import Governor
from moeprof.device.sim.history import EnergyHistory
from moeprof.device.sim.planted import HOT_EVENTS
from moeprof.device.sim.power import idle_steady_state, leakage_watts
from moeprof.device.sim.thermal import ThermalNetwork
from moeprof.record import ClockEvent

if TYPE_CHECKING:
    from moeprof.device.sim.truth import Truth

_HOT_MARGIN_CELSIUS = 0.5  # a planted slowdown's die is so little below where slowing begins

_PLAIN_STATE = (
    "now_seconds",
    "die_celsius",
    "sink_celsius",
    "joules",
    "busy_until_seconds",
    "_num_decisions",
    "_decided_joules",
)


class Body:
    """Time, heat, energy and clocks. Power is constant between two decisions of the governor.

    The die's temperature changes little from one decision to the next, so leakage is taken at
    the temperature that each stretch of constant power begins with.
    """

    def __init__(
        self, truth: Truth, *, counter_phase_seconds: float, counter_joules: float
    ) -> None:
        self._truth = truth
        self._network = ThermalNetwork(truth)
        self.now_seconds = 0.0
        self.joules = 0.0
        self.die_celsius, self.sink_celsius = idle_steady_state(truth, self._network)
        self.busy_until_seconds = -truth.idle_after_seconds
        self.throttle_seconds = {
            ClockEvent.SW_POWER_CAP: 0.0,
            ClockEvent.SW_THERMAL_SLOWDOWN: 0.0,
        } | dict.fromkeys(sorted(truth.planted.counted_events()), 0.0)
        self.governor = Governor(truth)
        self.history = EnergyHistory(
            truth, truth.idle_watts + leakage_watts(truth, self.die_celsius)
        )
        self.counter = TickingCounter(
            truth, phase_seconds=counter_phase_seconds, origin_joules=counter_joules
        )
        self._num_decisions = 0
        self._decided_joules = 0.0
        self._plant()

    @property
    def is_idle(self) -> bool:
        """Whether nothing has run for so long that the clock has gone down."""
        idle_seconds = self.now_seconds - self.busy_until_seconds
        return idle_seconds >= self._truth.idle_after_seconds

    @property
    def decision_seconds(self) -> float:
        """The moment of the governor's next decision."""
        return (self._num_decisions + 1) * self._truth.governor_seconds

    @property
    def change_seconds(self) -> float:
        """The moment at which the clock may change next."""
        return min(self.decision_seconds, self._edge_seconds)

    def advance(self, seconds: float, *, dynamic_watts: float, busy: bool) -> None:
        """Let `seconds` pass with `dynamic_watts` over idle and leakage."""
        assert seconds >= 0, f"time goes forward, got {seconds} s"
        end_seconds = self.now_seconds + seconds
        while self.now_seconds < end_seconds:
            decision_seconds = self.decision_seconds
            change_seconds = min(decision_seconds, self._edge_seconds)
            if change_seconds > end_seconds:
                self._stretch(end_seconds, dynamic_watts, busy=busy)
                return
            self._stretch(change_seconds, dynamic_watts, busy=busy)
            if change_seconds == self._edge_seconds:
                self._plant()
            if change_seconds < decision_seconds:
                continue
            self._num_decisions += 1
            used_joules = self.joules - self._decided_joules
            self._decided_joules = self.joules
            self.governor.decide(used_joules / self._truth.governor_seconds, self.die_celsius)

    def _stretch(self, end_seconds: float, dynamic_watts: float, *, busy: bool) -> None:
        truth, start_seconds = self._truth, self.now_seconds
        seconds = end_seconds - start_seconds
        if seconds <= 0:
            return
        watts = truth.idle_watts + leakage_watts(truth, self.die_celsius) + dynamic_watts
        if busy and self.governor.planted is not None:
            watts = self._evident(watts)
        self.die_celsius, self.sink_celsius = self._network.after(
            seconds, self.die_celsius, self.sink_celsius, watts
        )
        self.counter.follow(start_seconds, end_seconds, self.joules, watts)
        self.joules += watts * seconds
        self.history.add(end_seconds, self.joules)
        self.now_seconds = end_seconds
        if busy:
            self.busy_until_seconds = end_seconds
            if self.governor.sm_clock_hertz < truth.sm_clock_hertz_max:
                for event in self.governor.events & self.throttle_seconds.keys():
                    self.throttle_seconds[event] += seconds

    def _plant(self) -> None:
        planted = self._truth.planted
        self.governor.plant(planted.throttle_at(self.now_seconds))
        self._edge_seconds = planted.next_edge(self.now_seconds)

    def _evident(self, watts: float) -> float:
        """Heat the die, or return raised power, as the planted throttle's cause would show."""
        assert self.governor.planted is not None
        truth, cause = self._truth, self.governor.planted.cause
        if cause in HOT_EVENTS:
            hot_celsius = truth.slowdown_celsius - _HOT_MARGIN_CELSIUS
            self.die_celsius = max(self.die_celsius, hot_celsius)
        if cause is ClockEvent.SW_POWER_CAP:
            # Inside the slack, so that the governor itself leaves the clock alone.
            below_fraction = truth.governor_slack_fraction / 2
            watts = max(watts, truth.power_limit_watts * (1 - below_fraction))
        return watts

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state, for `restore`."""
        return {
            "plain": {name: getattr(self, name) for name in _PLAIN_STATE},
            "throttle_seconds": {str(event): s for event, s in self.throttle_seconds.items()},
            "governor": self.governor.snapshot(),
            "history": self.history.snapshot(),
            "counter": self.counter.snapshot(),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from what `snapshot` returned."""
        for name in _PLAIN_STATE:
            setattr(self, name, snapshot["plain"][name])
        self.throttle_seconds = {
            ClockEvent(name): seconds for name, seconds in snapshot["throttle_seconds"].items()
        }
        self.governor.restore(snapshot["governor"])
        self.history.restore(snapshot["history"])
        self.counter.restore(snapshot["counter"])
        self._plant()
