"""Claims about the effect of temperature on latency and power, and about its cause."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from dataset.examples import FAILED, WORKLOAD, identity

from moeprof.analysis.temperature_effect import TemperatureEffect, temperature_effects
from moeprof.analysis.thermal_cause import Cause
from moeprof.dataset.row import measurement_row
from moeprof.dataset.schema import MEASUREMENTS, to_columns, to_table

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

HOLDS = (40.0, 50.0, 60.0)
START = datetime(2026, 1, 2, tzinfo=UTC)


def table(
    latency: Callable[[float, int], float] = lambda celsius, block: 1.0,
    watts: Callable[[float], float | None] = lambda celsius: 300.0,
    *,
    holds: tuple[float, ...] = HOLDS,
    num_rounds: int = 4,
    edit: Callable[[float], dict[str, Any]] = lambda celsius: {},
) -> pa.Table:
    """Return blocks of two points at every temperature in turn, `num_rounds` times.

    Latencies and powers scatter by 0.1 %.
    """
    random = np.random.default_rng(5)
    rows = []
    order = np.concatenate([random.permutation(holds) for _ in range(num_rounds)]).tolist()
    for block, celsius in enumerate(order):
        for point in range(2):
            order_index = 2 * block + point
            seconds = (1 + point) * 1e-4 * latency(celsius, block)
            seconds *= float(np.exp(1e-3 * random.standard_normal()))
            power = watts(celsius)
            who = identity(
                order_index,
                point_id=f"{point}-{celsius}",
                recorded_at=START + timedelta(seconds=100 * block + point),
            )
            row = measurement_row(who, WORKLOAD, FAILED) | {
                "status": "ok",
                "batch_size": 4 + point,
                "hold_celsius": celsius,
                "die_celsius": celsius + float(random.normal(0, 0.3)),
                "sm_clock_hertz": 1.98e9,
                "latency_seconds": seconds,
                "latency_seconds_ci_low": seconds * 0.998,
                "latency_seconds_ci_high": seconds * 1.002,
                "average_watts": power and power * float(random.normal(1, 1e-3)),
            }
            rows.append(row | edit(celsius))
    return to_table(to_columns(rows, MEASUREMENTS), MEASUREMENTS)


def effect(found: pa.Table) -> TemperatureEffect:
    (only,) = temperature_effects(found)
    return only


def test_a_planted_effect_is_found_within_its_interval() -> None:
    found = effect(table(lambda celsius, _: float(np.exp(1e-3 * celsius))))

    slope = found.latency_fraction_per_celsius
    assert slope.low < 1e-3 < slope.high
    assert slope.relative_half_width_fraction < 0.2
    assert found.latency_seconds_per_celsius.estimate == pytest.approx(
        slope.estimate * found.latency_seconds
    )
    assert found.cause.latency is Cause.OTHER
    assert found.smallest_excluded_fraction_per_celsius is None


def test_no_effect_is_an_interval_about_zero_and_says_how_small() -> None:
    found = effect(table())

    slope = found.latency_fraction_per_celsius
    assert slope.low < 0 < slope.high
    assert found.smallest_excluded_fraction_per_celsius == max(-slope.low, slope.high) < 3e-4
    assert found.cause.latency is Cause.NONE_SEEN
    assert found.cause.watts is Cause.NONE_SEEN


def test_drift_is_not_taken_for_temperature() -> None:
    found = effect(table(lambda _, block: 1 + 0.01 * block - 0.0003 * block**2))

    slope = found.latency_fraction_per_celsius
    assert slope.low < 0 < slope.high
    assert slope.high - slope.low < 1e-3


def test_disturbed_blocks_widen_the_interval() -> None:
    disturbances = np.random.default_rng(8).normal(0, 0.01, 12)

    disturbed = effect(table(lambda _, block: 1 + disturbances[block]))

    quiet = effect(table()).latency_fraction_per_celsius
    slope = disturbed.latency_fraction_per_celsius
    assert slope.high - slope.low > 4 * (quiet.high - quiet.low)


def test_power_that_rises_at_an_equal_clock_is_leakage() -> None:
    found = effect(table(watts=lambda celsius: 250 + celsius))

    assert found.watts_per_celsius.estimate == pytest.approx(1.0, abs=0.05)
    assert found.watts_per_celsius.low > 0.9
    assert found.cause.watts is Cause.LEAKAGE


@pytest.mark.parametrize(
    ("reasons", "cause"),
    [
        (["sw_power_cap"], Cause.POWER_LIMIT),
        (["sw_thermal_slowdown"], Cause.CLOCK),
        (None, Cause.CLOCK),
    ],
    ids=str,
)
def test_latency_that_follows_the_clock_names_what_held_it(
    reasons: list[str] | None, cause: Cause
) -> None:
    def slowed(celsius: float) -> dict[str, Any]:
        clock = 1.98e9 * float(np.exp(-2e-3 * (celsius - 40)))
        return {"sm_clock_hertz": clock, "clock_event_reasons": reasons}

    found = effect(table(lambda celsius, _: float(np.exp(2e-3 * celsius)), edit=slowed))

    assert found.cause.latency is cause
    assert found.cause.clock_share_fraction == pytest.approx(1.0, abs=0.2)


def test_a_clock_that_hardly_moves_explains_no_large_effect() -> None:
    def slowed(celsius: float) -> dict[str, Any]:
        return {"sm_clock_hertz": 1.98e9 * float(np.exp(-2e-4 * (celsius - 40)))}

    found = effect(table(lambda celsius, _: float(np.exp(2e-3 * celsius)), edit=slowed))

    assert found.cause.latency is Cause.OTHER
    assert found.cause.clock_share_fraction == pytest.approx(0.1, abs=0.05)


def test_power_that_was_not_measured_is_absent_with_its_reason() -> None:
    no_counter = {"energy_absent_reason": "no energy counter"}

    found = effect(table(watts=lambda _: None, edit=lambda _: no_counter))

    assert found.watts_per_celsius is None
    assert found.cause.watts is None
    assert found.watts_absent_reason == "no energy counter"
    assert found.latency_fraction_per_celsius is not None


@pytest.mark.parametrize(
    ("holds", "num_rounds", "words"),
    [((40.0,), 12, "one temperature only"), ((40.0, 50.0), 1, "2 blocks"), (HOLDS, 1, None)],
    ids=str,
)
def test_too_little_tells_nothing_and_why(
    holds: tuple[float, ...], num_rounds: int, words: str | None
) -> None:
    found = effect(table(holds=holds, num_rounds=num_rounds))

    if words is None:
        assert found.latency_fraction_per_celsius is not None
    else:
        assert words in found.absent_reason
        assert found.latency_fraction_per_celsius is None


def test_rows_without_a_latency_or_a_temperature_are_left_out() -> None:
    whole = table()
    rows = whole.to_pylist()
    rows[0] |= {"latency_seconds": None, "status": "failed"}
    rows[3] |= {"die_celsius": None}

    found = effect(to_table(to_columns(rows, MEASUREMENTS), MEASUREMENTS))

    assert found.group.num_rows == whole.num_rows - 2


def test_devices_and_kernels_are_told_apart_and_points_not_held_left_out() -> None:
    rows = table().to_pylist()
    others = [row | {"kernel": "another", "run_id": "another"} for row in rows]
    unheld = [row | {"hold_celsius": None, "kernel": "third"} for row in rows]

    found = temperature_effects(
        to_table(to_columns(rows + others + unheld, MEASUREMENTS), MEASUREMENTS)
    )

    assert [each.group.kernel for each in found] == ["another", "reference"]


def test_ranks_that_share_a_measurement_count_it_once() -> None:
    rows = table().to_pylist()

    found = effect(
        to_table(
            to_columns(rows + [row | {"ep_rank": 1} for row in rows], MEASUREMENTS), MEASUREMENTS
        )
    )

    assert found.group.num_rows == len(rows)
