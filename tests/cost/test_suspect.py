from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from cost.tables import grid, law_seconds, row, table

from moeprof.cost.demand import demand_of
from moeprof.cost.points import Observed, points_from_table
from moeprof.cost.suspect import Reason, fit_weights, suspects

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.points import Points


def observed(seconds: NDArray[np.float64], watts: NDArray[np.float64] | None = None) -> Observed:
    absent = np.full(len(seconds), np.nan)
    power = absent if watts is None else watts
    return Observed(seconds, absent, absent, power, power * seconds)


def rising_watts(points: Points) -> NDArray[np.float64]:
    return 250 + 40 * np.log2(points.batch_size)


def reasons(points: Points, seen: Observed) -> dict[int, set[Reason]]:
    found: dict[int, set[Reason]] = {}
    for each in suspects(points, seen):
        found.setdefault(each.row, set()).add(each.reason)
    return found


def test_nothing_is_suspect_in_rows_that_obey_the_law() -> None:
    points = grid()

    assert suspects(points, observed(law_seconds(points), rising_watts(points))) == ()


def test_rows_without_power_are_not_suspect_for_their_power() -> None:
    points = grid()

    assert suspects(points, observed(law_seconds(points))) == ()


def test_a_row_faster_than_the_memory_is_listed_and_says_the_floor() -> None:
    # 256 experts of 44 M weights in bf16: 22.5 GB, which 4.8 TB/s read in 4.70 ms.
    shape = {"hidden_size": 7168, "expert_size": 2048, "num_experts": 256, "top_k": 8}
    points = points_from_table(table([row(**shape, batch_size=512)] * 2))

    (found,) = suspects(points.take(np.array([0])), observed(np.array([4.0e-3])))

    assert found.reason is Reason.FASTER_THAN_MEMORY
    assert found.reason.quantity == "latency_seconds"
    assert "takes at least 0.004685 s" in found.detail
    assert 0 < found.weight_fraction < 1
    assert suspects(points.take(np.array([0])), observed(np.array([4.5e-3]))) == ()


def test_weights_that_the_cache_holds_may_be_read_faster_than_memory() -> None:
    points = points_from_table(table([row(num_experts=4, top_k=2, batch_size=2)]))
    assert demand_of(points).weight_bytes[0] < 60e6

    assert suspects(points, observed(np.array([1e-6]))) == ()


def test_expected_active_experts_may_have_been_fewer() -> None:
    uniform = points_from_table(table([row(routing_pattern="uniform", batch_size=16)]))
    counted = points_from_table(table([row(routing_pattern="active:82", batch_size=16)]))
    seen = observed(np.array([0.85 * demand_of(uniform).weight_bytes[0] / 4.8e12]))
    exact = observed(np.array([0.7 * demand_of(counted).weight_bytes[0] / 4.8e12]))

    assert suspects(uniform, seen) == ()
    assert [each.reason for each in suspects(counted, exact)] == [Reason.FASTER_THAN_MEMORY]


def test_of_three_repeats_the_one_apart_is_listed() -> None:
    # One token of top 8 is the same work under both patterns.
    points = points_from_table(
        table([row(batch_size=1), row(batch_size=1, routing_pattern="strided"), row(batch_size=1)])
    )
    seen = observed(np.array([50e-6, 50.1e-6, 80e-6]), np.array([300.0, 150.0, 301.0]))

    assert reasons(points, seen) == {
        1: {Reason.POWER_REPEATS},
        2: {Reason.LATENCY_REPEATS},
    }


def test_repeats_may_differ_by_what_the_other_repeats_do() -> None:
    points = points_from_table(table([row(batch_size=tokens) for tokens in range(1, 101)] * 2))
    truth = law_seconds(points)
    rough = np.random.default_rng(0).normal(0, 0.03, len(points))
    one_off = np.where(np.arange(len(points)) == 7, 0.25, 0.0)

    in_noise = reasons(points, observed(truth * np.exp(rough + one_off)))
    in_calm = reasons(points, observed(truth * np.exp(0.1 * rough + one_off)))

    assert in_noise == {}
    assert set(in_calm) == {7, 107}


def test_power_that_jumps_where_latency_does_not_is_listed_on_both_sides() -> None:
    points = points_from_table(table([row(batch_size=tokens) for tokens in (64, 96, 128)]))
    seen = observed(np.array([1.00e-3, 1.02e-3, 1.04e-3]), np.array([300.0, 305.0, 700.0]))

    assert reasons(points, seen) == {1: {Reason.POWER_JUMPS}, 2: {Reason.POWER_JUMPS}}


def test_power_that_rises_with_latency_is_no_jump() -> None:
    points = points_from_table(table([row(batch_size=tokens) for tokens in (64, 96, 128)]))
    seen = observed(np.array([1.0e-3, 1.5e-3, 2.2e-3]), np.array([300.0, 420.0, 600.0]))

    assert reasons(points, seen) == {}


def falling(points: Points, curves: NDArray[np.bool_]) -> Observed:
    high = curves & (points.batch_size <= 2)
    watts = np.where(high, 600.0, rising_watts(points))
    return observed(law_seconds(points) * (1 + 0.2 * np.log2(points.batch_size)), watts)


def many_curves() -> Points:
    rows = [
        row(hidden_size=1024 + 128 * curve, batch_size=tokens)
        for curve in range(8)
        for tokens in (1, 2, 4, 8, 16, 32, 64)
    ]
    return points_from_table(table(rows))


def test_power_that_falls_with_tokens_on_most_curves_is_listed() -> None:
    points = many_curves()
    most = points.hidden_size < 1024 + 128 * 6

    found = reasons(points, falling(points, most))

    fallen = {row for row, why in found.items() if Reason.POWER_FALLS in why}
    assert fallen == set(np.flatnonzero(most & (points.batch_size <= 2)).tolist())


def test_power_that_falls_on_one_curve_is_that_curve_s_business() -> None:
    points = many_curves()

    found = reasons(points, falling(points, points.hidden_size == 1024))

    assert not any(Reason.POWER_FALLS in why for why in found.values())


def test_a_suspect_row_counts_less_for_what_is_in_doubt_and_in_full_for_the_rest() -> None:
    points = points_from_table(table([row(batch_size=tokens) for tokens in (64, 96, 128)]))
    seen = observed(np.array([1.00e-3, 1.02e-3, 1.04e-3]), np.array([300.0, 305.0, 1e5]))

    found = suspects(points, seen)

    watts = fit_weights(found, len(points), "average_watts")
    assert watts[0] == 1
    assert watts[1] == watts[2] < 0.1
    assert watts.min() >= 0.01
    assert (fit_weights(found, len(points), "latency_seconds") == 1).all()


@pytest.mark.parametrize("num", [0, 1])
def test_few_rows_or_none_are_no_trouble(num: int) -> None:
    points = grid().take(np.arange(num))
    seen = observed(law_seconds(points), rising_watts(points))

    assert suspects(points, seen) == ()
    assert fit_weights((), num, "latency_seconds").tolist() == [1.0] * num


def test_power_that_is_missing_in_places_does_not_hide_the_rest() -> None:
    points = points_from_table(table([row(batch_size=tokens) for tokens in (64, 80, 96, 128)]))
    seen = observed(np.full(4, 1e-3), np.array([300.0, np.nan, 305.0, 700.0]))

    assert set(reasons(points, seen)) == {2, 3}
