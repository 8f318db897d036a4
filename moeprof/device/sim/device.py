"""The simulated GPU as a device: its door, its identity, and its whole state as a snapshot."""

from __future__ import annotations

import difflib
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

import moeprof
from moeprof.device.protocol import Ceilings, DeviceIdentity
from moeprof.device.sim.admission import admitted
from moeprof.device.sim.body import Body
from moeprof.device.sim.faults import NO_FAULTS, Faults
from moeprof.device.sim.noise import TimingNoise
from moeprof.device.sim.program import SimulatedProgram
from moeprof.device.sim.sensors import Sensors, SimulatedEnergyCounter, failed_state
from moeprof.device.sim.timing import launch_cost
from moeprof.device.sim.truth import Truth, truth_of
from moeprof.errors import (
    DeviceError,
    DeviceLost,
    DeviceUnavailable,
    HardwareError,
)
from moeprof.hardware import catalogue

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from moeprof.device.protocol import EnergyCounter, Work
    from moeprof.hardware.gpu import GPU
    from moeprof.record import DeviceState

PREFIX = "sim:"
EPOCH_SECONDS = 1_767_225_600.0  # 2026-01-01T00:00:00Z, so that records can be reproduced
RESERVED_BYTES = 1024**3  # what a driver and a context hold; an assumption
_COUNTER_ORIGIN_JOULES = 1e6  # counters start below this, as if the driver had run for a while


class SimulatedDevice:
    """A GPU that prices work in place of running it. Time is virtual and begins at 0.

    The same GPU, truth, seed and calls give the same numbers, bit for bit.
    """

    def __init__(self, gpu: GPU, truth: Truth, *, seed: int, faults: Faults = NO_FAULTS) -> None:
        noise_seed, sensor_seed, counter_seed = np.random.SeedSequence(seed).spawn(3)
        phase_fraction, origin_fraction = np.random.default_rng(counter_seed).random(2).tolist()
        self.identity = DeviceIdentity(
            kind=f"{PREFIX}{gpu.name}",
            name=f"simulated {gpu.device_names[0] if gpu.device_names else gpu.name}",
            uuid=f"sim-{gpu.name}-{seed}",
            simulated=True,
            versions={"simulator": moeprof.__version__},
        )
        self.specification: GPU | None = gpu
        self.l2_bytes = truth.l2_bytes
        self.power_limit_watts: float | None = truth.power_limit_watts
        self.energy_counter: EnergyCounter | None = (
            None if faults.energy_counter_absent else SimulatedEnergyCounter(self._read_joules)
        )
        self.energy_absent_reason: str | None = (
            "the simulated card has no energy counter" if faults.energy_counter_absent else None
        )
        self._gpu = gpu
        self._truth = truth
        self._faults = faults
        self._noise = TimingNoise(truth, noise_seed)
        self._sensors = Sensors(truth, sensor_seed)
        self._body = Body(
            truth,
            counter_phase_seconds=phase_fraction * truth.counter_seconds,
            counter_joules=origin_fraction * _COUNTER_ORIGIN_JOULES,
        )

    def now(self) -> float:
        """Return virtual seconds since the device was opened."""
        return self._body.now_seconds

    def sleep(self, seconds: float) -> None:
        """Leave the device idle for virtual `seconds`; takes next to no real time."""
        self._body.advance(seconds, dynamic_watts=0.0, busy=False)

    def wall_clock(self) -> float:
        """Return virtual seconds since the Unix epoch; the device opens at 2026-01-01T00:00:00Z."""
        return EPOCH_SECONDS + self._body.now_seconds

    def state(self) -> DeviceState:
        """Read every sensor, which takes time, as on a real card.

        Raises:
            DeviceLost: the device is gone.

        """
        self.sleep(self._truth.state_read_seconds)
        self._check()
        if self._sensors_failed:
            return failed_state(self._body.now_seconds)
        return self._sensors.state(self._body)

    def free_bytes(self) -> int:
        """Return the memory less what a driver holds; what programs use is not counted."""
        return self._truth.memory_bytes - RESERVED_BYTES

    def ceilings(self, dtype: str) -> Ceilings | None:
        """Return the specification's peaks, or None for a dtype that it does not name."""
        flops_per_second = self._gpu.peak_flops_per_second.get(dtype)
        if flops_per_second is None:
            return None
        return Ceilings(self._gpu.memory_bytes_per_second, flops_per_second, "datasheet")

    def translating_errors(self, doing: str) -> AbstractContextManager[None]:
        """Change nothing: a simulated device has no vendor."""
        del doing
        return nullcontext()

    def prepare(self, work: Work) -> SimulatedProgram:
        """Price simulated work, which takes no virtual time.

        Raises:
            KernelUnsupported: the work is not simulated, or not in a format that the GPU knows.
            DeviceOutOfMemory: the local experts' weights, in every buffer set, do not fit.
            DeviceLost: the device is gone.

        """
        self._check()
        admitted_work = admitted(work, kind=self.identity.kind, free_bytes=self.free_bytes())
        cost = launch_cost(self._truth, admitted_work)
        return SimulatedProgram(
            cost, truth=self._truth, body=self._body, noise=self._noise, check=self._check
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain JSON values; the truth and the faults are not in it."""
        return {
            "uuid": self.identity.uuid,
            "body": self._body.snapshot(),
            "noise": self._noise.snapshot(),
            "sensors": self._sensors.snapshot(),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from a snapshot, bit for bit; programs made before go on as well.

        Raises:
            DeviceError: the snapshot is of another device.

        """
        if snapshot["uuid"] != self.identity.uuid:
            raise DeviceError(
                f"{self.identity.uuid}: the snapshot is of {snapshot['uuid']}",
                hint="Resume with the same device and seed.",
            )
        self._body.restore(snapshot["body"])
        self._noise.restore(snapshot["noise"])
        self._sensors.restore(snapshot["sensors"])

    def close(self) -> None:
        """Let go of nothing."""

    def _read_joules(self) -> float | None:
        self.sleep(self._truth.counter_read_seconds)
        self._check()
        return None if self._sensors_failed else self._sensors.joules(self._body)

    @property
    def _sensors_failed(self) -> bool:
        failed_at = self._faults.sensors_fail_at_seconds
        return failed_at is not None and self._body.now_seconds >= failed_at

    def _check(self) -> None:
        lost_at = self._faults.lost_at_seconds
        if lost_at is not None and self._body.now_seconds >= lost_at:
            raise DeviceLost(f"{self.identity.uuid}: the simulated GPU was lost at {lost_at} s")


def open_simulated(selector: str, *, seed: int) -> SimulatedDevice:
    """Open the simulated GPU that a selector such as `sim:h200-sxm` names.

    Raises DeviceUnavailable and CatalogueError as `simulated_gpu` does.
    """
    gpu = simulated_gpu(selector)
    return SimulatedDevice(gpu, truth_of(gpu), seed=seed)


def simulated_gpu(selector: str) -> GPU:
    """Return the specification that a selector such as `sim:h200-sxm` names.

    Raises:
        DeviceUnavailable: the selector names no GPU of the catalogue.
        CatalogueError: the GPU's file is malformed.

    """
    name = selector.removeprefix(PREFIX)
    try:
        return catalogue.gpu(name)
    except HardwareError as error:
        known = catalogue.gpu_names()
        nearest = difflib.get_close_matches(name, known) or known
        raise DeviceUnavailable(
            f"no GPU {name!r} to simulate: {error.message}",
            hint=f"Choose {', '.join(PREFIX + candidate for candidate in nearest)}.",
        ) from error
