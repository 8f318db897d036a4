from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from cost.tables import row, table

from moeprof.cost.linear_terms import linear_terms
from moeprof.cost.marginal import MarginalTable
from moeprof.cost.points import points_from_table
from moeprof.cost.thermal import ClockEffect, GPUThermal, KernelEffect, Thermal
from moeprof.errors import UsageError
from moeprof.record import Interval
from moeprof.workload.occupancy import occupancy_of_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.model import CostModel
    from moeprof.cost.points import Points

NUM_EXPERTS = 32
ROUNDING = 2.0**-24
CLOCKS = (1.98e9, 1.5e9, np.nan)
CELSIUS = np.array([50.0, 70.0, 85.0])


@pytest.fixture(scope="module")
def warm_model(model: CostModel) -> CostModel:
    def about(slope: float) -> Interval:
        return Interval(slope, slope * 0.9, slope * 1.1, 0.9)

    own = GPUThermal(
        gpu="h200-sxm",
        reference_celsius=55.0,
        lowest_celsius=40.0,
        highest_celsius=80.0,
        power_limit_watts=700.0,
        leakage_watts_per_celsius=about(1.0),
        leakage_efold_celsius=36.0,
        watts_per_celsius=about(1.0),
        sm_clock_hertz_per_celsius=about(1e6),
        kernels=(KernelEffect("vllm 0.24.0 | triton | bf16 | bf16", about(2e-3)),),
        clock=ClockEffect((0.0, 2.0), (1.9e9, 1.8e9), (0.2, 1.0), (0.5, 1.5)),
    )
    return replace(model, thermal=Thermal((own,)))


def gpus() -> Points:
    rows = [
        row(
            hidden_size=1024,
            expert_size=512,
            num_experts=NUM_EXPERTS,
            top_k=4,
            batch_size=64,
            routing_pattern="uniform",
            sm_clock_hertz=None if np.isnan(clock) else clock,
        )
        for clock in CLOCKS
    ]
    return points_from_table(table(rows))


def drawn_rows() -> NDArray[np.int64]:
    return np.random.default_rng(1).poisson(4.0, (len(CLOCKS), NUM_EXPERTS)).astype(np.int64) * (
        np.random.default_rng(2).random((len(CLOCKS), NUM_EXPERTS)) < 0.7
    )


def with_one_more(place: int, rows: NDArray[np.int64]) -> Points:
    """Return GPU `place` with its rows, and with one more on each expert in turn."""
    cases = np.vstack([rows[place], rows[place] + np.eye(NUM_EXPERTS, dtype=np.int64)])
    counted = occupancy_of_rows(np.arange(len(cases) + 1) * NUM_EXPERTS, cases.ravel())
    some = gpus().take(np.full(len(cases), place))
    return replace(some, occupancy=counted, die_celsius=np.full(len(cases), CELSIUS[place]))


@pytest.mark.parametrize("place", range(len(CLOCKS)))
def test_the_table_holds_the_models_own_differences(warm_model: CostModel, place: int) -> None:
    rows = drawn_rows()
    points = with_one_more(place, rows)
    seconds = warm_model.seconds(points).value
    joules = warm_model.joules(points)
    assert joules is not None

    found = MarginalTable.prepare(warm_model, gpus()).at(rows, CELSIUS)

    assert found.joules is not None
    # Predictions are rounded, the table's differences are not.
    for ours, theirs in ((found.seconds, seconds), (found.joules, joules.value)):
        expected = theirs[1:] - theirs[0]
        np.testing.assert_allclose(ours[place], expected, atol=2 * ROUNDING * theirs.max())


def test_a_new_expert_costs_more_than_a_row_on_one_that_is_active(model: CostModel) -> None:
    rows = np.full((1, NUM_EXPERTS), 1, dtype=np.int64)
    rows[0, ::2] = 0

    found = MarginalTable.prepare(model, gpus().take(np.array([0]))).at(rows)

    assert found.seconds[0, ::2].min() > found.seconds[0, 1::2].max()
    assert (found.seconds >= 0).all()


def test_a_model_without_power_has_no_joules(model: CostModel) -> None:
    found = MarginalTable.prepare(replace(model, watts=None), gpus()).at(drawn_rows())

    assert found.joules is None


def test_rows_of_other_gpus_than_were_prepared_are_refused(model: CostModel) -> None:
    prepared = MarginalTable.prepare(model, gpus())

    with pytest.raises(UsageError, match=r"must be \[3, num_experts\], got \[2, 32\]"):
        prepared.at(drawn_rows()[:2])


def test_a_term_that_the_features_cannot_give_is_an_error_of_ours() -> None:
    with pytest.raises(AssertionError, match="needs a feature"):
        linear_terms(gpus(), lambda points: points.occupancy.num_rows[:, None] ** 0.3)
