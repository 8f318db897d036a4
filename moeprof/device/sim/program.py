"""Simulated work made ready: what a sample and a long load do to the simulated GPU."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from moeprof.device.sim.body import Body
    from moeprof.device.sim.noise import TimingNoise
    from moeprof.device.sim.timing import LaunchCost
    from moeprof.device.sim.truth import Truth
    from moeprof.record import ClockEvent

SAMPLE_SECONDS = 250e-6  # far above the 0.5 us that CUDA events resolve


class SimulatedProgram:
    """One launch cost, charged to a body; holds no state of its own.

    `check` raises DeviceLost once the device is gone.
    """

    def __init__(
        self,
        cost: LaunchCost,
        *,
        truth: Truth,
        body: Body,
        noise: TimingNoise,
        check: Callable[[], None],
    ) -> None:
        self._cost = cost
        self._truth = truth
        self._body = body
        self._noise = noise
        self._check = check
        self._only_clock_matters = not (truth.drift_fraction or truth.latency_fraction_per_celsius)
        # The same whatever the clock, so that a program prepared again is the same program.
        fastest_seconds = cost.seconds(truth.sm_clock_hertz_max, truth.ambient_celsius)
        self.launches_per_sample = max(1, math.ceil(SAMPLE_SECONDS / fastest_seconds))

    def sample(self) -> float:
        """Return seconds per launch of one noisy sample.

        Raises:
            DeviceLost: the device was gone before the sample ended.

        """
        self._check()
        launch_seconds = self._noiseless_seconds() * self._noise.next_factor()
        dynamic_watts = self._cost.dynamic_watts(self._sm_clock_hertz, launch_seconds)
        sample_seconds = self.launches_per_sample * launch_seconds
        self._body.advance(sample_seconds, dynamic_watts=dynamic_watts, busy=True)
        self._check()
        return launch_seconds

    def run(self, seconds: float) -> int:
        """Launch for at least `seconds`, to the end of the last launch; return the launches.

        Launches take their mean time, so that a long run costs a step per moment at which
        the clock may change.

        Raises:
            DeviceLost: the device was gone before the run ended.

        """
        self._check()
        body = self._body
        end_seconds = body.now_seconds + seconds
        num_launches = 0.0
        clock_hertz = launch_seconds = dynamic_watts = 0.0
        while True:
            if clock_hertz != self._sm_clock_hertz or not self._only_clock_matters:
                clock_hertz = self._sm_clock_hertz
                launch_seconds = self._noiseless_seconds() * self._noise.mean_factor
                dynamic_watts = self._cost.dynamic_watts(clock_hertz, launch_seconds)
            step_seconds = min(end_seconds, body.change_seconds) - body.now_seconds
            if step_seconds <= 0:
                break
            body.advance(step_seconds, dynamic_watts=dynamic_watts, busy=True)
            num_launches += step_seconds / launch_seconds
        whole_launches = max(1, math.ceil(num_launches))
        rest_seconds = (whole_launches - num_launches) * launch_seconds
        body.advance(rest_seconds, dynamic_watts=dynamic_watts, busy=True)
        self._check()
        return whole_launches

    def close(self) -> None:
        """Free nothing: there is no data behind simulated work."""

    @property
    def true_sm_clock_hertz(self) -> float:
        """The clock that launches run at now, whatever the sensors say; for audits."""
        return self._sm_clock_hertz

    @property
    def true_events(self) -> frozenset[ClockEvent]:
        """What holds that clock below its highest now, as far as it has a name; for audits."""
        return self._body.governor.events

    @property
    def _sm_clock_hertz(self) -> float:
        return self._body.governor.sm_clock_hertz

    def _noiseless_seconds(self) -> float:
        body, truth = self._body, self._truth
        drifted_fraction = min(1.0, body.now_seconds / truth.drift_seconds)
        launch_seconds = self._cost.seconds(self._sm_clock_hertz, body.die_celsius)
        return launch_seconds * (1 + truth.drift_fraction * drifted_fraction)
