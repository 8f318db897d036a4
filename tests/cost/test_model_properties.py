from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from cost.tables import row, table
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from moeprof.cost.points import points_from_table
from moeprof.cost.watt_terms import limit_watts
from moeprof.errors import DatasetError
from moeprof.workload.dtypes import BYTES_PER_ELEMENT

if TYPE_CHECKING:
    import pyarrow as pa

    from moeprof.cost.model import CostModel
    from moeprof.cost.points import Points

ROUNDING = 2.0**-22
KERNELS = ("triton", "flashinfer_cutlass", "marlin", "nobody's own", "unknown")
GPUS = ("imported:h200-sxm", "h100-sxm", "b200", "cpu", "unknown")
PATTERNS = ("uniform", "balanced", "strided", "zipf:1.1", "power_law:1.2", "dirichlet:0.5")
SHAPES = ((2048, 768, 128, 8), (3000, 1000, 24, 3), (16384, 64, 8, 1))


def divisors(number: int) -> list[int]:
    return [each for each in range(1, min(number, 1024) + 1) if number % each == 0]


@st.composite
def legal_rows(draw: st.DrawFn) -> dict[str, Any]:
    """Any workload that a table may hold."""
    experts = draw(st.integers(1, 1024))
    expert_size = draw(st.integers(1, 65536))
    changes = {
        "hidden_size": draw(st.integers(1, 65536)),
        "expert_size": expert_size,
        "num_experts": experts,
        "top_k": draw(st.integers(1, min(experts, 32))),
        "batch_size": draw(st.one_of(st.integers(1, 256), st.integers(1, 65536))),
        "weight_dtype": draw(st.sampled_from(list(BYTES_PER_ELEMENT))),
        "activation_dtype": draw(st.sampled_from(list(BYTES_PER_ELEMENT))),
        "kernel": draw(st.sampled_from(KERNELS)),
        "device_kind": draw(st.sampled_from(GPUS)),
        "device_name": None,
        "ep_size": draw(st.sampled_from(divisors(experts))),
        "tp_size": draw(st.sampled_from(divisors(expert_size))),
        "num_projections": draw(st.integers(2, 3)),
        "die_celsius": draw(st.one_of(st.none(), st.floats(20, 95))),
        "routing_pattern": draw(st.sampled_from((*PATTERNS, None))),
    }
    if changes["routing_pattern"] is None:
        local = experts // changes["ep_size"]
        most = changes["batch_size"] * changes["top_k"]
        num_rows = draw(st.integers(0, most))
        changes["num_rows"] = num_rows
        changes["num_active_experts"] = draw(st.integers(min(1, num_rows), min(local, num_rows)))
    return row(**changes)


@st.composite
def growing_counts(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of one layer, kernel and batch size, each with no expert emptier than the one before."""
    hidden, expert, experts, top_k = draw(st.sampled_from(SHAPES))
    tokens = draw(st.sampled_from((1, 7, 64, 500, 5000)))
    common = {
        "hidden_size": hidden,
        "expert_size": expert,
        "num_experts": experts,
        "top_k": top_k,
        "batch_size": tokens,
        "kernel": draw(st.sampled_from(KERNELS)),
        "device_kind": draw(st.sampled_from(GPUS)),
        "routing_pattern": draw(st.sampled_from((None, *PATTERNS))),
    }
    counts = np.zeros(experts, dtype=np.int64)
    rows = []
    for _ in range(draw(st.integers(2, 6))):
        for place in draw(st.lists(st.integers(0, experts - 1), max_size=8)):
            # A token takes an expert once at most.
            left = min(tokens * top_k - int(counts.sum()), tokens - int(counts[place]))
            counts[place] += draw(st.integers(0, left))
        rows.append(row(**common, rows_per_expert=counts.tolist()))
    return rows


def points_of(rows: list[dict[str, Any]]) -> Points:
    try:
        return points_from_table(table(rows))
    except DatasetError:
        assume(False)  # a pattern that this layer or batch size does not allow
        raise


@settings(max_examples=60, deadline=None)
@given(rows=growing_counts())
def test_seconds_never_fall_as_active_experts_rows_or_the_fullest_expert_grow(
    model: CostModel, rows: list[dict[str, Any]]
) -> None:
    seconds = model.seconds(points_of(rows)).value

    assert (seconds[1:] >= seconds[:-1] * (1 - ROUNDING)).all(), seconds


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(legal_rows(), min_size=2, max_size=8))
def test_predictions_are_finite_positive_and_inside_their_interval(
    model: CostModel, rows: list[dict[str, Any]]
) -> None:
    points = points_of(rows)
    for predicted in (model.seconds(points), model.joules(points), model.average_watts(points)):
        assert predicted is not None
        for values in (predicted.value, predicted.low, predicted.high):
            assert np.isfinite(values).all()
            assert (values > 0).all()
        assert (predicted.low <= predicted.value).all()
        assert (predicted.value <= predicted.high).all()
    for name, values in model.breakdown(points).items():
        assert np.isfinite(values).all(), name
        assert (values >= 0).all(), name


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(legal_rows(), min_size=2, max_size=8))
def test_joules_are_watts_times_seconds_and_watts_keep_the_limit(
    model: CostModel, rows: list[dict[str, Any]]
) -> None:
    points = points_of(rows)
    seconds, joules = model.seconds(points), model.joules(points)
    watts = model.average_watts(points)
    assert watts is not None
    assert joules is not None
    parts = model.breakdown(points)
    shares = [values for name, values in parts.items() if name.endswith("_joules")]

    np.testing.assert_allclose(watts.value * seconds.value, joules.value, rtol=ROUNDING)
    np.testing.assert_allclose(sum(shares), joules.value, rtol=ROUNDING)
    assert (watts.value <= limit_watts(points) * (1 + ROUNDING)).all()


def test_a_prediction_does_not_depend_on_what_else_is_asked(
    model: CostModel, measured_table: pa.Table
) -> None:
    rows = measured_table.to_pylist()
    others = [each | {"batch_size": each["batch_size"] + 3, "kernel": "marlin"} for each in rows]
    points = points_from_table(table([*rows, *others]))
    together = [model.seconds(points), model.joules(points), model.average_watts(points)]
    turned = points.take(np.arange(len(points))[::-1])
    backwards = [model.seconds(turned), model.joules(turned), model.average_watts(turned)]

    for place in range(0, len(points), 5):
        one = points.take(np.array([place]))
        for all_of, other, alone in zip(
            together,
            backwards,
            (model.seconds(one), model.joules(one), model.average_watts(one)),
            strict=True,
        ):
            for field in ("value", "low", "high", "extrapolating"):
                expected = getattr(all_of, field)[place]
                assert getattr(alone, field)[0] == expected, (place, field)
                assert getattr(other, field)[::-1][place] == expected, (place, field)
