"""What die temperature and SM clock do to seconds and watts, against a reference of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.contexts import kernel_names

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from moeprof.cost.points import Observed, Points
    from moeprof.record import Interval

_MOST_EXPONENT: Final = 4.0  # of leakage: e^4 is far over any card's limit
_CLOCK_RATIOS: Final = (0.1, 10.0)
_LEAST_WATTS_FRACTION: Final = 0.1  # leakage is never all of a working card's power
_SMALL: Final = 1e-9


@dataclass(frozen=True, slots=True)
class KernelEffect:
    """What a degree does to the seconds of one kernel while the clock stays, as a share."""

    kernel: str
    latency_fraction_per_celsius: Interval


@dataclass(frozen=True, slots=True)
class ClockEffect:
    """How seconds and watts follow the SM clock, by doublings of rows per active expert.

    At `octaves`, rising (log2 of rows per active expert), steps usually run at `sm_clock_hertz`;
    seconds go with (usual / clock)^`latency_exponents`, watts, without leakage, with
    (clock / usual)^`watts_exponents`. Linear between, constant outside.
    """

    octaves: tuple[float, ...]
    sm_clock_hertz: tuple[float, ...]
    latency_exponents: tuple[float, ...]
    watts_exponents: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GPUThermal:
    """One GPU's answer to its temperature; intervals are of 90 %, None: not identified.

    Leakage is what power grows by over that at `reference_celsius`; it grows e times every
    `leakage_efold_celsius` where a bend was seen (None: a straight line). `watts_per_celsius` is
    the slope of the whole power, `leakage_watts_per_celsius` what is left of it without the watts
    that a changed speed explains.
    """

    gpu: str
    reference_celsius: float
    lowest_celsius: float
    highest_celsius: float
    power_limit_watts: float | None
    leakage_watts_per_celsius: Interval | None
    leakage_efold_celsius: float | None
    watts_per_celsius: Interval | None
    sm_clock_hertz_per_celsius: Interval | None
    kernels: tuple[KernelEffect, ...]
    clock: ClockEffect | None

    def leaked_watts(self, celsius: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the leakage over that at the reference, shaped as `celsius`; 0 where it is NaN."""
        if self.leakage_watts_per_celsius is None:
            return np.zeros(celsius.shape)
        slope = max(self.leakage_watts_per_celsius.estimate, 0.0)
        excess = self._excess(celsius)
        efold = self.leakage_efold_celsius
        if efold is None:
            return slope * excess
        grown: NDArray[np.float64] = np.expm1(np.minimum(excess / efold, _MOST_EXPONENT))
        return slope * efold * grown

    def slope_of(self, kernel: str) -> float:
        """Return what a degree adds to log seconds of a kernel; 0 where the interval holds 0."""
        for each in self.kernels:
            if each.kernel == kernel:
                return _clear(each.latency_fraction_per_celsius)
        return 0.0

    def log_factors(
        self,
        slope: ArrayLike,
        celsius: ArrayLike,
        clock_hertz: ArrayLike,
        octaves: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the logs of the factors on seconds, and on watts without leakage.

        All arrays broadcast, NaN is not known. `slope` is that of the kernel, `octaves` are log2 of
        rows per active expert.
        """
        warmer = np.asarray(slope) * self._excess(celsius)
        if self.clock is None:
            return warmer, np.zeros(np.broadcast(celsius, octaves).shape)
        faster = self._log_clock_ratio(celsius, clock_hertz, octaves)
        clock = self.clock
        slower = np.interp(octaves, clock.octaves, clock.latency_exponents)
        hungrier = np.interp(octaves, clock.octaves, clock.watts_exponents)
        return warmer - faster * slower, faster * hungrier

    def _log_clock_ratio(
        self, celsius: ArrayLike, clock_hertz: ArrayLike, octaves: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return log(clock / usual clock); without a clock, that of the temperature is taken."""
        assert self.clock is not None
        usual = np.interp(octaves, self.clock.octaves, self.clock.sm_clock_hertz)
        slope = self.sm_clock_hertz_per_celsius
        warm = usual + (0.0 if slope is None else _clear(slope)) * self._excess(celsius)
        clock = np.where(np.isnan(clock_hertz), warm, clock_hertz)
        found: NDArray[np.float64] = np.log(np.clip(clock / usual, *_CLOCK_RATIOS))
        return found

    def _excess(self, celsius: ArrayLike) -> NDArray[np.float64]:
        excess = np.asarray(celsius) - self.reference_celsius
        return np.where(np.isnan(excess), 0.0, excess)  # nan_to_num takes five times as long


@dataclass(frozen=True, slots=True)
class Thermal:
    """What is known of each GPU whose rows had temperatures that differ.

    A point of another GPU, without a temperature, or of a kernel without an effect is taken to be
    at the reference: its factors are 1 and its leakage is 0.
    """

    gpus: tuple[GPUThermal, ...]

    def slowdown(self, points: Points) -> NDArray[np.float64]:
        """Return the factor on seconds against the reference temperature and clock, [num_points].

        Without a clock, that of the temperature is taken. An effect whose interval holds 0 is none.
        """
        log = np.zeros(len(points))
        for own, rows in self._rows_by_gpu(points):
            some = points.take(rows)
            slopes = {each.kernel: own.slope_of(each.kernel) for each in own.kernels}
            slope = np.zeros(len(rows))
            if any(slopes.values()):
                slope = np.array([slopes.get(name, 0.0) for name in kernel_names(some)])
            log[rows] = own.log_factors(slope, *_conditions(some))[0]
        found: NDArray[np.float64] = np.exp(log)
        return found

    def watts_ratio(self, points: Points) -> NDArray[np.float64]:
        """Return the factor that the SM clock puts on watts without leakage, [num_points]."""
        log = np.zeros(len(points))
        for own, rows in self._rows_by_gpu(points):
            log[rows] = own.log_factors(0.0, *_conditions(points.take(rows)))[1]
        found: NDArray[np.float64] = np.exp(log)
        return found

    def leakage_watts(self, points: Points) -> NDArray[np.float64]:
        """Return the watts that leak over those at the reference temperature, [num_points]."""
        found = np.zeros(len(points))
        for own, rows in self._rows_by_gpu(points):
            found[rows] = own.leaked_watts(points.die_celsius[rows])
        return found

    def _rows_by_gpu(self, points: Points) -> list[tuple[GPUThermal, NDArray[np.int64]]]:
        places = {name: code for code, name in enumerate(points.gpu.names)}
        pairs = (
            (own, np.flatnonzero(points.gpu.codes == places[own.gpu]))
            for own in self.gpus
            if own.gpu in places
        )
        return [(own, rows) for own, rows in pairs if len(rows)]


def at_reference(points: Points, observed: Observed, thermal: Thermal | None) -> Observed:
    """Return what the points would have cost at their GPU's reference temperature and clock.

    Seconds lose their slowdown, watts their leakage and what the clock did to them, joules are the
    product of both; `thermal` None: nothing changes.
    """
    if thermal is None:
        return observed
    slowdown = thermal.slowdown(points)
    plain = observed.average_watts - thermal.leakage_watts(points)
    watts = np.maximum(plain, _LEAST_WATTS_FRACTION * observed.average_watts) / thermal.watts_ratio(
        points
    )
    changed = watts / observed.average_watts / slowdown
    return replace(
        observed,
        latency_seconds=observed.latency_seconds / slowdown,
        latency_seconds_ci_low=observed.latency_seconds_ci_low / slowdown,
        latency_seconds_ci_high=observed.latency_seconds_ci_high / slowdown,
        average_watts=watts,
        energy_joules=observed.energy_joules * changed,
    )


def not_identified(thermal: Thermal | None) -> tuple[str, ...]:
    """Return what the data could not tell of temperature; nothing where they told it all."""
    if thermal is None:
        return ("temperature",)
    missing = []
    for own in thermal.gpus:
        if own.leakage_watts_per_celsius is None:
            missing.append(f"leakage of {own.gpu}")
        if not own.kernels:
            missing.append(f"latency against temperature on {own.gpu}")
    return tuple(missing)


def intensity_octaves(num_rows: ArrayLike, num_active: ArrayLike) -> NDArray[np.float64]:
    """Return log2 of rows per active expert, of arrays that broadcast; 0 where there are none."""
    rows = np.maximum(num_rows, _SMALL)
    found: NDArray[np.float64] = np.log2(rows / np.clip(num_active, _SMALL, rows))
    return found


def _conditions(
    points: Points,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    octaves = intensity_octaves(points.occupancy.num_rows, points.occupancy.num_active)
    return points.die_celsius, points.sm_clock_hertz, octaves


def _clear(slope: Interval) -> float:
    """Return the slope, or 0 where its interval holds 0."""
    return slope.estimate if slope.low > 0 or slope.high < 0 else 0.0
