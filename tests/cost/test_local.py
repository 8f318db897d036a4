from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from cost.tables import row, table

from moeprof.cost.contexts import contexts_of
from moeprof.cost.local import NO_CURVES, Curves, fit_curves, octaves_of
from moeprof.cost.points import points_from_table

if TYPE_CHECKING:
    from moeprof.cost.points import Points

TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
NOISE = 0.01


def at(tokens: tuple[int, ...] = TOKENS, **changes: Any) -> Points:
    return points_from_table(table([row(batch_size=each, **changes) for each in tokens]))


def curves_of(points: Points, residual: np.ndarray, weight: np.ndarray | None = None) -> Curves:
    trust = np.ones(len(points)) if weight is None else weight
    return fit_curves(points, contexts_of(points), residual, trust)


def corrections(curves: Curves, points: Points, *, borrow: bool = False) -> np.ndarray:
    found = curves.find(points, contexts_of(points), borrow=borrow)
    return curves.corrections(found, octaves_of(points))


def wave(points: Points) -> np.ndarray:
    return 0.2 + 0.1 * np.sin(octaves_of(points))


def test_measured_points_get_back_what_was_left_over_within_noise() -> None:
    points = at()

    found = corrections(curves_of(points, wave(points)), points)

    np.testing.assert_allclose(found, wave(points), atol=NOISE)


def test_between_two_knots_a_curve_is_linear_in_doublings() -> None:
    points = at((4, 16))
    curves = curves_of(points, np.array([0.1, 0.3]))

    left, middle, right = corrections(curves, at((4, 8, 16)))

    assert middle == pytest.approx((left + right) / 2)
    assert left < middle < right


def test_outside_of_the_knots_a_curve_fades_towards_its_median() -> None:
    points = at()
    residual = np.where(points.batch_size >= 128, 0.4, 0.0)
    curves = curves_of(points, residual)
    median = np.median(corrections(curves, points))

    end, near, far, farthest = corrections(curves, at((256, 512, 4096, 2**26)))

    assert end > near > far > farthest
    assert farthest == pytest.approx(median, abs=1e-3)


def test_a_pattern_that_was_not_measured_takes_the_curve_of_all_patterns() -> None:
    both = [
        row(batch_size=tokens, routing_pattern=pattern)
        for pattern in ("balanced", "uniform")
        for tokens in TOKENS
    ]
    points = points_from_table(table(both))
    residual = np.repeat([0.1, 0.3], len(TOKENS))
    curves = curves_of(points, residual)

    balanced, uniform, other = (
        corrections(curves, at(routing_pattern=pattern))
        for pattern in ("balanced", "uniform", "zipf:1.1")
    )

    np.testing.assert_allclose(balanced, 0.1, atol=2 * NOISE)
    np.testing.assert_allclose(uniform, 0.3, atol=2 * NOISE)
    assert (balanced < other).all()
    assert (other < uniform).all()


def test_an_unmeasured_context_has_no_curve_and_no_correction() -> None:
    curves = curves_of(at(), np.full(len(TOKENS), 0.2))
    others = at(hidden_size=4096)

    assert (curves.find(others, contexts_of(others)) == -1).all()
    assert (corrections(curves, others) == 0).all()
    near, outside = curves.gaps(np.array([-1]), np.array([3.0]))
    assert np.isinf(near).all()
    assert np.isinf(outside).all()


def test_a_context_that_another_gpu_has_measured_borrows_its_curve_if_asked() -> None:
    points = at()
    curves = curves_of(points, wave(points))
    elsewhere = at(device_kind="imported:h100-sxm")

    assert (corrections(curves, elsewhere) == 0).all()
    borrowed = corrections(curves, elsewhere, borrow=True)
    assert (borrowed == corrections(curves, points)).all()


def test_a_context_with_curves_of_its_own_does_not_borrow() -> None:
    rows = [row(batch_size=each) for each in TOKENS]
    rows += [row(batch_size=each, device_kind="imported:h100-sxm") for each in TOKENS]
    curves = curves_of(points_from_table(table(rows)), np.repeat([0.3, 0.0], len(TOKENS)))

    found = corrections(curves, at(device_kind="imported:h100-sxm"), borrow=True)

    np.testing.assert_allclose(found, 0, atol=NOISE)


def test_gaps_are_doublings_to_the_nearest_knot_and_beyond_the_last() -> None:
    curves = curves_of(at((4, 64)), np.zeros(2))
    asked = at((1, 8, 64, 256))

    near, outside = curves.gaps(curves.find(asked, contexts_of(asked)), octaves_of(asked))

    assert near.tolist() == [2, 1, 0, 2]
    assert outside.tolist() == [2, 0, 0, 2]


def test_repeats_average_out() -> None:
    points = at((16,) * 400)
    residual = 0.2 + np.random.default_rng(0).normal(0, 0.1, 400)

    found = corrections(curves_of(points, residual), at((16,)))

    assert found[0] == pytest.approx(residual.mean(), abs=1e-3)


def test_a_doubted_row_counts_less_than_its_repeat() -> None:
    points = at((16, 16))

    found = corrections(curves_of(points, np.array([0.0, 1.0]), np.array([1.0, 0.01])), at((16,)))

    assert abs(found[0]) < 0.05


def test_curves_do_not_depend_on_the_order_of_rows() -> None:
    points = at()
    order = np.random.default_rng(0).permutation(len(points))

    plain = corrections(curves_of(points, wave(points)), points)
    shuffled = points.take(order)
    again = corrections(curves_of(shuffled, wave(shuffled)), points)

    np.testing.assert_allclose(again, plain, atol=1e-12)


def test_without_curves_nothing_is_added() -> None:
    points = at()

    assert (corrections(NO_CURVES, points) == 0).all()
    nobody = points.take(np.zeros(0, dtype=np.int64))
    assert len(curves_of(nobody, np.zeros(0)).patterns) == 0
