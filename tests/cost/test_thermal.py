from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moeprof.cost.fit import FitSettings, fit_cost
from moeprof.cost.held_rows import HeldRows, held_rows_of_table
from moeprof.cost.part_model import joined_parts
from moeprof.cost.points import Observed, Points, observed_from_table, points_from_table, usable
from moeprof.cost.terms import Part
from moeprof.cost.thermal import Thermal, at_reference, not_identified
from moeprof.cost.thermal_fit import fit_thermal
from moeprof.device.sim.truth import Truth, truth_of
from moeprof.hardware.catalogue import gpu
from moeprof.selfcheck.draw import between, with_drawn_heat
from moeprof.selfcheck.temperature_rows import (
    COMPUTE,
    DECODE,
    Planted,
    coldest_watts,
    drawn_plan,
    drawn_rows,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from moeprof.record import Interval

HOLDS = (38.0, 42.0, 46.0, 50.0)
QUIET = Planted(HOLDS, 0.001, 0.0, 0.0)


@dataclass(frozen=True)
class Measured:
    points: Points
    observed: Observed
    held: HeldRows

    def take(self, index: np.ndarray) -> Measured:
        return Measured(self.points.take(index), self.observed.take(index), self.held.take(index))

    def thermal(self) -> Thermal | None:
        return fit_thermal(self.points, self.observed, self.held)


def card(name: str = "h200-sxm", **changes: float) -> Truth:
    """Return a card whose power limit no point comes near, unless it is changed."""
    truth = truth_of(gpu(name))
    return replace(truth, power_limit_watts=10 * truth.power_limit_watts, **changes)


def measured(
    truth: Truth, planted: Planted = QUIET, sizes: Sequence[int] = DECODE, seed: int = 0
) -> Measured:
    table, _ = drawn_rows(truth, planted, np.random.default_rng(seed), tuple(sizes))
    return from_table(usable(table).table)


def from_table(table: pa.Table) -> Measured:
    held = held_rows_of_table(table)
    assert held is not None
    return Measured(points_from_table(table), observed_from_table(table), held)


def leakage_slope(truth: Truth, celsius: float) -> float:
    excess_celsius = celsius - truth.reference_celsius
    return (
        truth.leakage_watts
        / truth.leakage_efold_celsius
        * math.exp(excess_celsius / truth.leakage_efold_celsius)
    )


def holds(interval: Interval | None, value: float) -> bool:
    return interval is not None and interval.low <= value <= interval.high


@pytest.mark.parametrize("name", ["h200-sxm", "a100-sxm-80gb", "l40s"])
def test_planted_leakage_lies_in_its_interval(name: str) -> None:
    truth = card(name)

    thermal = measured(truth).thermal()

    assert thermal is not None
    (found,) = thermal.gpus
    leakage = found.leakage_watts_per_celsius
    assert holds(leakage, leakage_slope(truth, found.reference_celsius))
    assert leakage is not None
    assert leakage.relative_half_width_fraction < 0.3
    assert leakage.confidence == 0.9
    assert not_identified(thermal) == ()


def test_a_latency_that_rises_with_temperature_is_found_and_is_not_taken_for_leakage() -> None:
    truth = card(latency_fraction_per_celsius=1e-3)

    thermal = measured(truth).thermal()

    assert thermal is not None
    (found,) = thermal.gpus
    (kernel,) = found.kernels
    assert holds(kernel.latency_fraction_per_celsius, 1e-3)
    assert holds(found.leakage_watts_per_celsius, leakage_slope(truth, found.reference_celsius))


def test_no_effect_is_none_and_not_its_noise() -> None:
    rows = measured(card())

    thermal = rows.thermal()

    assert thermal is not None
    hot = replace(rows.points, die_celsius=np.full(len(rows.points), 90.0))
    assert thermal.slowdown(hot).tolist() == [1.0] * len(hot)


def test_leakage_that_bends_is_seen_to_bend() -> None:
    truth = card(leakage_watts=90.0, leakage_efold_celsius=25.0)
    wide = Planted((30.0, 45.0, 60.0, 75.0), 0.0005, 0.0, 0.0)

    thermal = measured(truth, wide).thermal()

    assert thermal is not None
    (found,) = thermal.gpus
    assert found.leakage_efold_celsius == pytest.approx(25.0, rel=0.3)
    at = np.array([30.0, 75.0])
    true = truth.leakage_watts * np.exp((at - truth.reference_celsius) / 25.0)
    assert np.ptp(found.leaked_watts(at)) == pytest.approx(np.ptp(true), rel=0.1)


@pytest.mark.parametrize("celsius", [(40.0,) * 4, (40.0, 41.0, 42.0, 43.0)])
def test_temperatures_that_hardly_differ_identify_nothing(celsius: tuple[float, ...]) -> None:
    rows = measured(card())
    planted = dict(zip(HOLDS, celsius, strict=True))
    same = np.array([planted[each] for each in rows.held.celsius.tolist()])
    held = replace(rows.held, celsius=same)

    thermal = fit_thermal(replace(rows.points, die_celsius=same), rows.observed, held)

    assert thermal is None
    assert not_identified(thermal) == ("temperature",)
    assert at_reference(rows.points, rows.observed, thermal) is rows.observed


def test_work_that_differs_with_temperature_is_not_compared() -> None:
    rows = measured(card())
    # Every temperature gets a layer of its own: what differs may be either.
    sizes = rows.points.hidden_size + rows.held.celsius.astype(np.int64)

    assert fit_thermal(replace(rows.points, hidden_size=sizes), rows.observed, rows.held) is None


def test_leakage_is_found_where_blocks_have_to_be_guessed() -> None:
    truth, hits = card(), 0
    for seed in range(8):
        rows = measured(truth, replace(QUIET, disturbance_fraction=0.004), seed=seed)
        thermal = fit_thermal(rows.points, rows.observed)
        assert thermal is not None
        (found,) = thermal.gpus
        slope = leakage_slope(truth, found.reference_celsius)
        hits += holds(found.leakage_watts_per_celsius, slope)

    assert hits >= 6


def test_conditions_that_are_not_known_change_nothing() -> None:
    rows = measured(card(), replace(QUIET, slowdown_fraction_per_celsius=0.005), COMPUTE)
    thermal = rows.thermal()
    assert thermal is not None
    assert thermal.gpus[0].clock is not None
    nowhere = np.full(len(rows.points), np.nan)
    bare = replace(rows.points, die_celsius=nowhere, sm_clock_hertz=nowhere)

    others = replace(rows.points, gpu=replace(rows.points.gpu, names=("another",)))

    for points in (bare, others):
        assert thermal.slowdown(points).tolist() == [1.0] * len(points)
        assert thermal.watts_ratio(points).tolist() == [1.0] * len(points)
        assert thermal.leakage_watts(points).tolist() == [0.0] * len(points)


def test_work_bound_by_the_clock_follows_it_and_work_bound_by_memory_does_not() -> None:
    slowed = replace(QUIET, slowdown_fraction_per_celsius=0.005)
    thermal = measured(card(), slowed, (1, 8, *COMPUTE)).thermal()

    assert thermal is not None
    (found,) = thermal.gpus
    assert found.clock is not None
    assert found.clock.latency_exponents[0] == pytest.approx(0.0, abs=0.1)
    assert found.clock.latency_exponents[-1] == pytest.approx(1.0, abs=0.1)
    slope = found.sm_clock_hertz_per_celsius
    assert holds(slope, -0.005 * card().sm_clock_hertz_max)


def test_costs_at_the_reference_are_those_without_temperature_and_clock() -> None:
    rows = measured(card(), replace(QUIET, slowdown_fraction_per_celsius=0.005), (1, 8, *COMPUTE))
    thermal = rows.thermal()
    assert thermal is not None
    points = rows.points

    found = at_reference(points, rows.observed, thermal)

    np.testing.assert_allclose(
        found.latency_seconds * thermal.slowdown(points), rows.observed.latency_seconds
    )
    np.testing.assert_allclose(
        found.average_watts * thermal.watts_ratio(points) + thermal.leakage_watts(points),
        rows.observed.average_watts,
    )
    with_power = np.isfinite(found.energy_joules)
    np.testing.assert_allclose(
        found.energy_joules[with_power], (found.average_watts * found.latency_seconds)[with_power]
    )


def scene(kind: str, name: str, seed: int) -> Measured:
    random = np.random.default_rng(seed)
    plan = drawn_plan(random, disturbance_fraction_max=0.002, drift_fraction_max=0.0)
    truth = with_drawn_heat(card(name), random)
    if kind == "decode":
        return measured(truth, plan, DECODE, seed)
    if kind == "slows when hot":
        slowdown = between(random, (0.002, 0.01))
        plan = replace(plan, slowdown_fraction_per_celsius=slowdown)
        return measured(truth, plan, COMPUTE, seed)
    limit = between(random, (0.85, 0.95)) * coldest_watts(truth, plan.hold_celsius[0], COMPUTE)
    return measured(replace(truth, power_limit_watts=limit), plan, COMPUTE, seed)


@pytest.mark.parametrize(
    ("kind", "name"), [("slows when hot", "thermal_seconds"), ("decode", "leakage_joules")]
)
def test_a_breakdown_shows_what_temperature_adds(kind: str, name: str) -> None:
    rows = scene(kind, "h200-sxm", 0)
    settings = FitSettings(num_steps=50, num_rehearsal_steps=5)
    model = fit_cost(rows.points, rows.observed, settings=settings, held=rows.held)
    found = model.breakdown(rows.points)
    seconds, joules = model.seconds(rows.points), model.joules(rows.points)
    assert joules is not None

    parts = np.stack([found[f"{part.name.lower()}_seconds"] for part in Part], axis=1)
    whole = joined_parts(parts) * found["correction_ratio"] + found["thermal_seconds"]
    shares = [values for part, values in found.items() if part.endswith("_joules")]

    np.testing.assert_allclose(whole, seconds.value, rtol=1e-6)
    np.testing.assert_allclose(np.sum(shares, axis=0), joules.value, rtol=1e-6)
    hot = rows.points.die_celsius > np.median(rows.points.die_celsius)
    assert found[name][hot].mean() > found[name][~hot].mean()


@pytest.mark.parametrize("name", ["h200-sxm", "a100-sxm-80gb"])
@pytest.mark.parametrize("kind", ["decode", "slows when hot", "power limit"])
def test_held_out_seconds_and_joules_are_predicted_over_temperature_clock_and_batch(
    kind: str, name: str
) -> None:
    time_errors, energy_errors = [], []
    for seed in range(4):
        rows = scene(kind, name, seed)
        test = np.random.default_rng(seed).random(len(rows.points)) < 0.2
        known, asked = rows.take(~test), rows.take(test)

        model = fit_cost(
            known.points,
            known.observed,
            settings=FitSettings(num_steps=300, num_rehearsal_steps=20),
            held=known.held,
        )

        joules = model.joules(asked.points)
        assert joules is not None
        seconds = model.seconds(asked.points)
        time_errors.append(np.log(seconds.value / asked.observed.latency_seconds))
        energy_errors.append(np.log(joules.value / asked.observed.energy_joules))
    assert np.quantile(np.abs(np.concatenate(time_errors)), 0.95) <= 0.02
    assert np.nanquantile(np.abs(np.concatenate(energy_errors)), 0.95) <= 0.04


@pytest.mark.slow
@pytest.mark.parametrize("name", ["h200-sxm", "a100-sxm-80gb"])
def test_intervals_of_90_percent_hold_planted_leakage_as_often_as_they_say(name: str) -> None:
    random = np.random.default_rng(7)
    num_trials, hits = 400, 0
    for trial in range(num_trials):
        truth = with_drawn_heat(card(name), random)
        if trial % 2:
            effect = between(random, (-1e-3, 1e-3))
            truth = replace(truth, latency_fraction_per_celsius=effect)
        plan = drawn_plan(random, disturbance_fraction_max=0.005, drift_fraction_max=0.04)
        thermal = measured(truth, plan, DECODE, int(random.integers(2**31))).thermal()
        assert thermal is not None
        (found,) = thermal.gpus
        slope = leakage_slope(truth, found.reference_celsius)
        hits += holds(found.leakage_watts_per_celsius, slope)

    assert 0.87 <= hits / num_trials <= 0.93
