"""The physical state of a simulated GPU, and how time changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moeprof.device.sim.counter import TickingCounter
from moeprof.device.sim.governor import Governor
from moeprof.device.sim.history import EnergyHistory
from moeprof.device.sim.power import idle_steady_state, leakage_watts
from moeprof.device.sim.thermal import ThermalNetwork
from moeprof.record import ClockEvent

if TYPE_CHECKING:
    from moeprof.device.sim.truth import Truth

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
        }
        self.governor = Governor(truth)
        self.history = EnergyHistory(
            truth, truth.idle_watts + leakage_watts(truth, self.die_celsius)
        )
        self.counter = TickingCounter(
            truth, phase_seconds=counter_phase_seconds, origin_joules=counter_joules
        )
        self._num_decisions = 0
        self._decided_joules = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing has run for so long that the clock has gone down."""
        idle_seconds = self.now_seconds - self.busy_until_seconds
        return idle_seconds >= self._truth.idle_after_seconds

    @property
    def decision_seconds(self) -> float:
        """The moment of the governor's next decision."""
        return (self._num_decisions + 1) * self._truth.governor_seconds

    def advance(self, seconds: float, *, dynamic_watts: float, busy: bool) -> None:
        """Let `seconds` pass with `dynamic_watts` over idle and leakage."""
        assert seconds >= 0, f"time goes forward, got {seconds} s"
        end_seconds = self.now_seconds + seconds
        while self.now_seconds < end_seconds:
            decision_seconds = self.decision_seconds
            if decision_seconds > end_seconds:
                self._stretch(end_seconds, dynamic_watts, busy=busy)
                return
            self._stretch(decision_seconds, dynamic_watts, busy=busy)
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
                for event in self.governor.events:
                    self.throttle_seconds[event] += seconds

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
