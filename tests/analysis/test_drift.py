"""Claims about drift seen in sentinels, and about correcting for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from dataset.examples import FAILED, WORKLOAD, identity
from hypothesis import given, settings
from hypothesis import strategies as st

from moeprof.analysis.drift import (
    drift_corrected,
    sentinel_drift_fraction,
    sentinel_spread_fraction,
)
from moeprof.dataset.row import measurement_row
from moeprof.dataset.schema import MEASUREMENTS, to_columns, to_table
from moeprof.record import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

START = datetime(2026, 1, 2, tzinfo=UTC)


def table(
    sentinels: Mapping[int, float | None],
    points: Mapping[int, float],
    *,
    width: float | None = None,
    at_seconds: Mapping[int, float] | None = None,
    **changes: Any,
) -> pa.Table:
    """Return a table from order_index -> latency_seconds of sentinels and of points.

    `width` is half of every interval over the latency.
    """
    rows = []
    for role, latencies in ((Role.SENTINEL, sentinels), (Role.POINT, points)):
        for order_index, latency in latencies.items():
            names: dict[str, Any] = {"point_id": "s"} if role is Role.SENTINEL else {}
            if at_seconds is not None:
                names["recorded_at"] = START + timedelta(seconds=at_seconds[order_index])
            who = identity(order_index, role=role, **(names | changes))
            row = measurement_row(who, WORKLOAD, FAILED) | {"latency_seconds": latency}
            if width is not None and latency is not None:
                row["latency_seconds_ci_low"] = latency * (1 - width)
                row["latency_seconds_ci_high"] = latency * (1 + width)
            rows.append(row)
    return to_table(to_columns(rows, MEASUREMENTS), MEASUREMENTS)


def corrected(found: pa.Table) -> list[float | None]:
    return drift_corrected(found)["latency_seconds_drift_corrected"].to_pylist()


def half_width(found: pa.Table, row: int) -> float:
    """Return half of a corrected interval over the corrected latency."""
    bounds = [
        drift_corrected(found)[f"latency_seconds_drift_corrected{suffix}"][row].as_py()
        for suffix in ("", "_ci_low", "_ci_high")
    ]
    return (bounds[2] - bounds[1]) / 2 / bounds[0]


def test_a_steady_device_has_no_drift() -> None:
    found = table({0: 1e-4, 5: 1e-4, 9: 1e-4}, {3: 2e-4})

    assert sentinel_drift_fraction(found) == 0.0
    assert corrected(found) == pytest.approx([1e-4, 1e-4, 1e-4, 2e-4])


def test_the_drift_is_the_largest_change_of_the_sentinel() -> None:
    latencies = [1.00, 1.02, 1.04, 1.06, 1.08, 1.10]

    found = table(dict(enumerate(latencies)), {})

    assert sentinel_drift_fraction(found) == pytest.approx(0.10, rel=0.02)


def test_one_outlier_is_no_drift_but_it_is_spread() -> None:
    found = table({0: 1.0, 1: 1.0, 2: 3.0, 3: 1.0, 4: 1.0}, {})

    assert sentinel_drift_fraction(found) == 0.0
    assert sentinel_spread_fraction(found) == pytest.approx(2.0)


@pytest.mark.parametrize("sentinels", [{}, {0: 1.0}, {0: 1.0, 5: None}], ids=str)
def test_too_few_sentinels_tell_nothing(sentinels: dict[int, float | None]) -> None:
    found = table(sentinels, {3: 2.0})

    assert sentinel_drift_fraction(found) is None
    assert set(corrected(found)) == {None}


def test_only_what_lies_between_sentinels_is_corrected() -> None:
    found = corrected(table({2: 1.0, 6: 1.0}, {0: 3.0, 4: 3.0, 8: 3.0}))

    assert found[2:] == [None, pytest.approx(3.0), None]


@settings(deadline=None, max_examples=25)
@given(
    rate=st.floats(-0.02, 0.02),
    seconds=st.floats(1e-6, 1e-2),
    places=st.sets(st.integers(1, 98), max_size=10),
)
def test_an_exponential_drift_is_removed_entirely(
    rate: float, seconds: float, places: set[int]
) -> None:
    def drift(at: int) -> float:
        return float(np.exp(rate * at))

    sentinels = {at: 1e-4 * drift(at) for at in (0, 20, 40, 50, 80, 99)}
    points = {at: seconds * drift(at) for at in sorted(places) if at not in sentinels}

    found = np.array(corrected(table(sentinels, points)), dtype=float)[len(sentinels) :]

    assert np.allclose(found / seconds, found[:1] / seconds, rtol=1e-6)


def test_sentinels_of_another_run_say_nothing() -> None:
    ours = table({}, {3: 2.0})
    theirs = table({0: 1.0, 9: 2.0}, {}, run_id="another")
    both = ours.take([0])

    assert corrected(pa.concat_tables([both, theirs]))[0] is None


def test_the_corrected_column_states_its_unit() -> None:
    field = drift_corrected(table({}, {1: 1.0})).schema.field("latency_seconds_drift_corrected")

    assert field.metadata[b"unit"] == b"s"


def test_drift_runs_in_time_and_not_in_places_of_the_order() -> None:
    places = {0: 0.0, 1: 1.0, 2: 90.0, 3: 100.0}
    found = table({0: 1.0, 3: 1.1}, {1: 1.0, 2: 1.0}, at_seconds=places, width=1e-3)

    _, _, early, late = corrected(found)

    assert early / late == pytest.approx(1.1**0.89, rel=1e-3)


def test_a_corrected_interval_is_wider_than_the_points_own() -> None:
    found = table({0: 1.0, 2: 1.001, 4: 0.999, 6: 1.0}, {3: 2.0}, width=2e-3)

    assert half_width(found, 4) > 2.1e-3


def test_sentinels_that_scatter_widen_the_corrected_intervals() -> None:
    steady = dict.fromkeys(range(0, 40, 2), 1.0)
    restless = {at: 1 + 0.01 * (-1) ** (at // 2) for at in steady}

    wide = half_width(table(restless, {19: 2.0}, width=1e-3), 20)

    assert wide > 5 * half_width(table(steady, {19: 2.0}, width=1e-3), 20)


def test_one_stray_sentinel_does_not_bend_the_correction() -> None:
    sentinels = {at: 1 + 0.001 * at for at in range(0, 40, 4)}
    points = dict.fromkeys((15, 17), 2.0)
    clean = np.array(corrected(table(sentinels, points, width=1e-3)))[-2:]

    found = np.array(corrected(table(sentinels | {16: 3.0}, points, width=1e-3)))[-2:]

    assert np.allclose(found, clean, rtol=1e-3)


def test_a_step_is_kept_and_corrected() -> None:
    sentinels = {at: 1.0 if at < 20 else 1.04 for at in range(0, 64, 4)}
    found = corrected(table(sentinels, {10: 1.0, 30: 1.04}, width=5e-4))

    assert found[-2] == pytest.approx(found[-1], rel=2e-3)


def test_series_at_several_temperatures_share_one_drift() -> None:
    drift = {at: 1 + 0.001 * at for at in range(0, 48, 2)}
    cold = table({at: drift[at] for at in drift if at < 24}, {11: 1.011}, width=5e-4)
    hot = {at: 1.5 * drift[at] for at in drift if at >= 24}
    hot = table(hot, {37: 1.037}, width=5e-4, point_id="hot")

    found = np.array(corrected(pa.concat_tables([cold, hot])), dtype=float)

    assert found[12] == pytest.approx(found[-1], rel=2e-3)


def test_a_run_of_thousands_of_sentinels_is_corrected_in_reasonable_time_and_memory() -> None:
    num = 3000
    drift = {index: 1e-3 * (1 + 0.04 * index / num) for index in range(2 * num)}
    rows = table(
        {index: drift[index] for index in range(0, 2 * num, 2)},
        {index: drift[index] for index in range(1, 2 * num - 1, 2)},
        width=0.001,
    )

    corrected = drift_corrected(rows)["latency_seconds_drift_corrected"].to_numpy()

    assert np.isfinite(corrected).all()
    assert np.nanmax(corrected) / np.nanmin(corrected) == pytest.approx(1, abs=0.002)
    assert sentinel_drift_fraction(rows) == pytest.approx(0.08, abs=0.002)
