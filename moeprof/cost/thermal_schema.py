"""The sections of a model file on temperature and clock, and the dataclasses that they become."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field, model_validator

from moeprof.cost.thermal import ClockEffect, GPUThermal, KernelEffect, Thermal
from moeprof.recipe.schema import Strict
from moeprof.record import Interval

Name = Annotated[str, Field(max_length=1000)]
# Bounds far beyond what hardware does, within which no prediction leaves the range of a float64.
Celsius = Annotated[float, Field(ge=-273.15, le=1000)]
Slope = Annotated[float, Field(ge=-1e10, le=1e10)]
LogSlope = Annotated[float, Field(ge=-1, le=1)]
Exponent = Annotated[float, Field(ge=-30, le=30)]
Clock = Annotated[float, Field(gt=1e3, le=1e12)]


class IntervalSection(Strict):
    """An estimate with its interval (see `record.Interval`)."""

    estimate: Slope
    low: Slope
    high: Slope
    confidence: Annotated[float, Field(ge=0, le=1)]

    def interval(self) -> Interval:
        """Return what the section stands for."""
        return Interval(self.estimate, self.low, self.high, self.confidence)


class LogIntervalSection(IntervalSection):
    """As `IntervalSection`, of a logarithm's slope."""

    estimate: LogSlope
    low: LogSlope
    high: LogSlope


class KernelSection(Strict):
    """See `thermal.KernelEffect`."""

    kernel: Name
    latency_fraction_per_celsius: LogIntervalSection


class ClockSection(Strict):
    """See `thermal.ClockEffect`; all lists are of one length."""

    octaves: Annotated[list[Slope], Field(min_length=1, max_length=10_000)]
    sm_clock_hertz: list[Clock]
    latency_exponents: list[Exponent]
    watts_exponents: list[Exponent]

    @model_validator(mode="after")
    def _of_one_length(self) -> ClockSection:
        lists = (self.sm_clock_hertz, self.latency_exponents, self.watts_exponents)
        if any(len(each) != len(self.octaves) for each in lists):
            raise ValueError("all lists must be as long as octaves")
        if any(right <= left for left, right in pairwise(self.octaves)):
            raise ValueError("octaves must rise")
        return self


class GPUSection(Strict):
    """See `thermal.GPUThermal`."""

    gpu: Name
    reference_celsius: Celsius
    lowest_celsius: Celsius
    highest_celsius: Celsius
    power_limit_watts: Annotated[float, Field(gt=0, le=1e6)] | None
    leakage_watts_per_celsius: IntervalSection | None
    leakage_efold_celsius: Annotated[float, Field(ge=0.01, le=1e6)] | None
    watts_per_celsius: IntervalSection | None
    sm_clock_hertz_per_celsius: IntervalSection | None
    kernels: list[KernelSection]
    clock: ClockSection | None


class ThermalSection(Strict):
    """See `thermal.Thermal`."""

    gpus: list[GPUSection]

    def thermal(self) -> Thermal:
        """Return what the section stands for."""
        return Thermal(tuple(_gpu(each) for each in self.gpus))


def _gpu(section: GPUSection) -> GPUThermal:
    clock = section.clock
    return GPUThermal(
        gpu=section.gpu,
        reference_celsius=section.reference_celsius,
        lowest_celsius=section.lowest_celsius,
        highest_celsius=section.highest_celsius,
        power_limit_watts=section.power_limit_watts,
        leakage_watts_per_celsius=_interval(section.leakage_watts_per_celsius),
        leakage_efold_celsius=section.leakage_efold_celsius,
        watts_per_celsius=_interval(section.watts_per_celsius),
        sm_clock_hertz_per_celsius=_interval(section.sm_clock_hertz_per_celsius),
        kernels=tuple(
            KernelEffect(each.kernel, each.latency_fraction_per_celsius.interval())
            for each in section.kernels
        ),
        clock=None
        if clock is None
        else ClockEffect(
            octaves=tuple(clock.octaves),
            sm_clock_hertz=tuple(clock.sm_clock_hertz),
            latency_exponents=tuple(clock.latency_exponents),
            watts_exponents=tuple(clock.watts_exponents),
        ),
    )


def _interval(section: IntervalSection | None) -> Interval | None:
    return None if section is None else section.interval()
