"""The bench: the device and its kernels, brought to a condition and measured, point by point."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from pydantic import TypeAdapter

from moeprof.conditioning.hold import Hold, HoldReport, reach_temperature
from moeprof.conditioning.warm_up import WarmUp, warm_up
from moeprof.errors import KernelUnsupported
from moeprof.kernel.protocol import choice_of
from moeprof.measure.background import Background
from moeprof.measure.idle import measure_idle_power
from moeprof.measure.sensor.characterise import characterise_sensors
from moeprof.measure.sensor.stream import Quantity
from moeprof.measure.static_power import measure_static_power
from moeprof.measure.trial import measure_point
from moeprof.record import Condition
from moeprof.sweep.checking import Checks
from moeprof.sweep.meter import MeteredDevice, MeteredProgram
from moeprof.sweep.settings import Settings, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moeprof.conditioning.settings import HoldSettings
    from moeprof.device.protocol import Device
    from moeprof.kernel.protocol import Choice, Kernel, L2State
    from moeprof.measure.sensor.figures import SensorReport
    from moeprof.recipe.schema import Recipe
    from moeprof.record import DeviceState, Interval, Outcome
    from moeprof.sweep.case import Case
    from moeprof.sweep.meter import Meter
    from moeprof.sweep.plan import Block, Entry
    from moeprof.workload.workload import Workload


# Of load before the idle power is measured, so that it is that of a die under load.
_LEAD_IN_SECONDS = 1.0
_WARM_AGAIN_SECONDS_MAX = 60
_BACKGROUNDS = TypeAdapter(Background)


class Telling(Protocol):
    """Where a bench says what it is doing."""

    def __call__(
        self,
        phase: str,
        done_fraction: float | None,
        state: DeviceState | None,
        interval: Interval | None,
    ) -> None:
        """Hear the phase, and what is known of it."""


@dataclass(slots=True)
class Bench:
    """What stays between points: the warm-up that was done, and the power besides the work."""

    device: Device
    kernels: dict[str, Kernel]
    meter: Meter
    recipe: Recipe
    warmed: WarmUp | None = None
    checks: Checks = field(init=False)
    background: Background = field(default_factory=Background)
    undisturbed_hertz: float | None = None  # the highest SM clock that a point has shown
    block_index: int | None = None
    block_hold: HoldReport | None = None  # how the running block came to its temperature

    def __post_init__(self) -> None:
        """Begin without any kernel checked."""
        unchecked = self.recipe.workload.unchecked_kernels
        self.checks = Checks(self.device, self.meter, unchecked)

    @property
    def _metered(self) -> Device:
        return cast("Device", MeteredDevice(self.device, self.meter))

    @property
    def settings(self) -> Settings:
        """The recipe's settings as conditioning and measuring take them."""
        return settings_of(self.recipe)

    def measure(self, block: Block, entry: Entry, workload: Workload, tell: Telling) -> Outcome:
        """Bind, warm up if that was not done, hold, and measure one workload.

        Raises KernelUnsupported, CheckFailed, DeviceOutOfMemory, DeviceLost, Interrupted.
        """
        case = entry.case
        with self._loaded(case, workload) as (program, l2_state, choice):
            warmed = self._warm_up(program, tell)
            if self.block_index != block.index:
                self._begin_block(block, program, tell)
            hold = None
            if case.hold_celsius is not None:
                hold = self._hold_again(case.hold_celsius, program, tell)
            tell("measuring", None, None, None)
            outcome = measure_point(
                self._metered,
                program,
                stopping=self.settings.stopping,
                energy=self.settings.energy,
                hold=hold,
                warm_up=warmed,
                background=self.background,
                l2_state=l2_state,
                undisturbed_hertz=self.undisturbed_hertz,
                on_progress=lambda interval, state: tell("measuring", None, state, interval),
            )
        highest = None if outcome.condition is None else outcome.condition.sm_clock_hertz_max
        if highest is not None and self._is_possible(highest):
            self.undisturbed_hertz = max(highest, self.undisturbed_hertz or 0.0)
        return replace(
            outcome,
            kernel_choice=choice.kernel,
            kernel_version=choice.version,
            kernel_config_file=choice.config_file,
        )

    def _is_possible(self, sm_clock_hertz: float) -> bool:
        """Return whether the card has such a clock: one false reading must not last a run."""
        specification = self.device.specification
        limit_hertz = None if specification is None else specification.sm_clock_hertz_max
        return limit_hertz is None or sm_clock_hertz <= limit_hertz

    def bare_condition(self, case: Case) -> Condition:
        """Return what is known of the condition of a point that could not be measured."""
        return Condition(
            hold_celsius=case.hold_celsius,
            warm_up_seconds=self.warmed.seconds if self.warmed is not None else 0.0,
            warm_up_steady=self.warmed.steady if self.warmed is not None else None,
            die_celsius=None,
            die_celsius_start=None,
            die_celsius_end=None,
            memory_celsius=None,
            sm_clock_hertz=None,
            sm_clock_hertz_min=None,
            memory_clock_hertz=None,
            power_limit_watts=self.device.power_limit_watts,
            idle_watts=None,
            clock_events=None,
            throttled_fraction=None,
            l2_state=case.l2_state,
        )

    def ceilings(self, before: dict[str, Any]) -> dict[str, Any]:
        """Return the speeds that a roofline is drawn with, by dtype; unknown ones are left out.

        `before` is what this returned earlier in the run: of measured speeds the higher counts,
        because a machine shared with others is at times slow, and never faster than it can be.
        """
        with self.meter.spending("conditioning"):
            found = {dtype: self.device.ceilings(dtype) for dtype in self.recipe.workload.dtypes}
        known: dict[str, Any] = {
            dtype: asdict(each) for dtype, each in found.items() if each is not None
        }
        for dtype, each in known.items():
            for speed in ("bytes_per_second", "flops_per_second"):
                each[speed] = max(each[speed], before.get(dtype, each)[speed])
        return known

    @property
    def background_note(self) -> dict[str, Any]:
        """What was found of power at rest and of the sensors, for the record of the run."""
        note: dict[str, Any] = _BACKGROUNDS.dump_python(self.background, mode="json")
        return {name: note[name] for name in ("rest", "sensors")}

    def snapshot(self) -> dict[str, Any] | None:
        """Return what a resumed sweep goes on from; None where the device cools meanwhile."""
        device = self.device.snapshot()
        if device is None or self.warmed is None:
            return None
        return {
            "device": device,
            "warmed": asdict(self.warmed),
            "background": _BACKGROUNDS.dump_python(self.background, mode="json"),
            "undisturbed_hertz": self.undisturbed_hertz,
            "block_index": self.block_index,
            "block_hold": None if self.block_hold is None else asdict(self.block_hold),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from the snapshot of an earlier process."""
        self.device.restore(snapshot["device"])
        self.warmed = WarmUp(**snapshot["warmed"])
        self.background = _BACKGROUNDS.validate_python(snapshot["background"])
        self.undisturbed_hertz = snapshot["undisturbed_hertz"]
        self.block_index = snapshot["block_index"]
        report = snapshot["block_hold"]
        self.block_hold = None if report is None else HoldReport(**report)

    @contextmanager
    def _loaded(
        self, case: Case, workload: Workload
    ) -> Iterator[tuple[MeteredProgram, str, Choice]]:
        kernel = self.kernels[case.kernel]
        if reason := kernel.refusal(workload, self.device.identity):
            raise KernelUnsupported(reason)
        l2_state = cast("L2State", case.l2_state)
        work = self.checks.bind(kernel, workload, l2_state=l2_state, seed=self.recipe.seed)
        with self.meter.spending("first launches"):
            program = MeteredProgram(self.device.prepare(work), self.meter)
        try:
            yield program, work.l2_state, choice_of(work)
        finally:
            program.close()

    def _warm_up(self, program: MeteredProgram, tell: Telling) -> WarmUp:
        if self.warmed is None:
            with self.meter.spending("conditioning"):
                tell("measuring power at rest", None, None, None)
                rest = measure_idle_power(self._metered, self.settings.energy)
                tell("finding out about the sensors", None, None, None)
                self.background = Background(rest=rest, sensors=self._sensors(program))
                self.warmed = warm_up(
                    self._metered,
                    program,
                    self.settings.warm_up,
                    on_progress=lambda done_fraction, state: tell(
                        "warming up", done_fraction, state, None
                    ),
                )
        return self.warmed

    def _sensors(self, program: MeteredProgram) -> SensorReport | None:
        """Return period, window and lag of the power sensors, None where energy is not measured."""
        if not self.settings.energy.enabled or self.device.energy_counter is None:
            return None
        return characterise_sensors(self._metered, program)

    def _begin_block(self, block: Block, program: MeteredProgram, tell: Telling) -> None:
        """Settle at the block's temperature and measure the power without work there.

        Where no temperature is held, that power is measured once, and the die warmed again.
        """
        self.block_hold = None
        if block.hold_celsius is not None:
            settings = self.settings.hold(block.hold_celsius)
            self.block_hold = self._hold(settings, program, tell).report
            self._measure_static_power(tell)
        elif self.background.static is None:
            self._warm_to(None, program)
            warm_celsius = self.device.state().die_celsius
            self._measure_static_power(tell)
            self._warm_to(warm_celsius, program)
        self.block_index = block.index

    def _measure_static_power(self, tell: Telling) -> None:
        tell("measuring idle power", None, None, None)
        with self.meter.spending("conditioning"):
            static = measure_static_power(
                self._metered, self.settings.energy, lag_seconds=self._lag_seconds
            )
        self.background = replace(self.background, static=static)

    def _warm_to(self, die_celsius: float | None, program: MeteredProgram) -> None:
        """Keep the device under load for a second, or until the die is as warm as it was."""
        with self.meter.spending("conditioning"):
            for _ in range(_WARM_AGAIN_SECONDS_MAX):
                program.run(_LEAD_IN_SECONDS)
                found_celsius = self.device.state().die_celsius
                if die_celsius is None or found_celsius is None or found_celsius >= die_celsius:
                    return

    @property
    def _lag_seconds(self) -> float:
        """The lag of the energy counter as far as it is known."""
        sensors = self.background.sensors
        counter = None if sensors is None else sensors.of(Quantity.ENERGY)
        return 0.0 if counter is None else max(0.0, counter.lag_seconds or 0.0)

    def _hold_again(self, hold_celsius: float, program: MeteredProgram, tell: Telling) -> Hold:
        """Take over the block's temperature, or the block's failure to come to it."""
        if self.block_hold is not None and not self.block_hold.reached:
            settings = self.settings.hold(hold_celsius)
            return Hold(self._metered, program, settings, self.block_hold)
        return self._hold(self.settings.hold_again(hold_celsius), program, tell)

    def _hold(self, settings: HoldSettings, program: MeteredProgram, tell: Telling) -> Hold:
        phase = f"holding {settings.hold_celsius:g} °C"
        with self.meter.spending("conditioning"):
            return reach_temperature(
                self._metered,
                program,
                settings,
                on_progress=lambda done_fraction, state: tell(phase, done_fraction, state, None),
            )
