"""Claims about drift seen in sentinels, and about correcting for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from dataset.examples import FAILED, WORKLOAD, identity
from hypothesis import given
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


def table(
    sentinels: Mapping[int, float | None], points: Mapping[int, float], **changes: Any
) -> pa.Table:
    """Return a table from order_index -> latency_seconds of sentinels and of points."""
    rows = []
    for role, latencies in ((Role.SENTINEL, sentinels), (Role.POINT, points)):
        for order_index, latency in latencies.items():
            names = {"point_id": "s"} if role is Role.SENTINEL else {}
            who = identity(order_index, role=role, **(names | changes))
            rows.append(measurement_row(who, WORKLOAD, FAILED) | {"latency_seconds": latency})
    return to_table(to_columns(rows, MEASUREMENTS), MEASUREMENTS)


def corrected(found: pa.Table) -> list[float | None]:
    return drift_corrected(found)["latency_seconds_drift_corrected"].to_pylist()


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

    assert np.allclose(found / seconds, found[:1] / seconds, rtol=1e-9)


def test_sentinels_of_another_run_say_nothing() -> None:
    ours = table({}, {3: 2.0})
    theirs = table({0: 1.0, 9: 2.0}, {}, run_id="another")
    both = ours.take([0])

    assert corrected(pa.concat_tables([both, theirs]))[0] is None


def test_the_corrected_column_states_its_unit() -> None:
    field = drift_corrected(table({}, {1: 1.0})).schema.field("latency_seconds_drift_corrected")

    assert field.metadata[b"unit"] == b"s"
