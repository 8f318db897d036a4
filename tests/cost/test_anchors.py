from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from cost.tables import TOKENS, row, table

from moeprof.cost.anchors import fit_anchors
from moeprof.cost.contexts import contexts_of
from moeprof.cost.network import encoder_of
from moeprof.cost.points import points_from_table

if TYPE_CHECKING:
    from moeprof.cost.anchors import Anchors
    from moeprof.cost.points import Points

LAYER = {"hidden_size": 3072}
CARD = {"device_kind": "imported:h100-sxm"}


def at(**changes: Any) -> Points:
    return points_from_table(table([row(batch_size=each, **changes) for each in TOKENS]))


def anchors_of(points: Points, residual: np.ndarray, weight: np.ndarray | None = None) -> Anchors:
    """Return the anchors of a model that was fitted to one layer in Triton on an H200."""
    trust = np.ones(len(points)) if weight is None else weight
    return fit_anchors(points, contexts_of(points), residual, trust, encoder_of(contexts_of(at())))


def corrections(anchors: Anchors, points: Points) -> np.ndarray:
    return anchors.corrections(points, contexts_of(points))


def test_anchored_points_get_back_what_they_were_off_by() -> None:
    points = at(**LAYER)
    residual = 0.3 + 0.05 * np.sin(np.log2(points.batch_size))

    found = corrections(anchors_of(points, residual), points)

    np.testing.assert_allclose(found, residual, atol=0.02)


def test_a_layer_without_anchors_gets_exactly_nothing() -> None:
    anchors = anchors_of(at(**LAYER), np.full(len(TOKENS), 0.3))

    assert (corrections(anchors, at()) == 0).all()
    assert (corrections(anchors, at(**CARD, **LAYER)) == 0).all()


def test_anchors_tell_something_of_other_kernels_and_parallelisms_of_their_layer() -> None:
    anchors = anchors_of(at(**LAYER), np.full(len(TOKENS), 0.3))

    for changes in ({"tp_size": 2}, {"kernel": "marlin"}):
        found = corrections(anchors, at(**LAYER, **changes))
        assert (found > 0).all(), changes
        assert (found < 0.3).all(), changes


@pytest.mark.parametrize(
    ("changes", "also", "not_also"),
    [
        (CARD, {**CARD, "hidden_size": 512, "kernel": "marlin"}, {}),
        ({"kernel": "marlin"}, {"kernel": "marlin", "hidden_size": 512}, {**CARD}),
    ],
)
def test_anchors_of_a_new_gpu_or_kernel_act_on_all_of_its_layers(
    changes: dict, also: dict, not_also: dict
) -> None:
    anchors = anchors_of(at(**LAYER, **changes), np.full(len(TOKENS), 0.3))

    assert (corrections(anchors, at(**also)) > 0.05).all()
    assert (corrections(anchors, at(**not_also)) == 0).all()


def test_what_is_new_is_what_the_encoder_has_no_name_for() -> None:
    known, card, kernel = (
        anchors_of(at(**LAYER, **changes), np.full(len(TOKENS), 0.3))
        for changes in ({}, CARD, {"kernel": "marlin"})
    )

    assert known.new_gpus == known.new_kernels == ()
    assert card.new_gpus == ("h100-sxm",)
    assert kernel.new_kernels == ("vllm 0.24.0 | marlin | bf16 | bf16",)


def test_the_spread_is_how_far_off_anchors_are_when_left_out() -> None:
    points = at(**LAYER)
    draw = np.random.default_rng(0)
    quiet = anchors_of(points, np.full(len(points), 0.3))
    noisy = anchors_of(points, 0.3 + draw.normal(0, 0.2, len(points)))

    assert 0 < quiet.spread_fraction < 0.06
    assert noisy.spread_fraction > 3 * quiet.spread_fraction


def test_the_spread_is_that_of_leaving_each_anchor_out_in_turn() -> None:
    """The short cut for the errors left out, against leaving out for real."""
    points = at(**LAYER)
    residual = np.array([1.0, -1.0] * (len(points) // 2)) * 0.2
    errors = []
    for place in range(len(points)):
        others = np.arange(len(points)) != place
        anchors = anchors_of(points.take(others), residual[others])
        errors.append(abs(residual[place] - corrections(anchors, points)[place]))

    assert anchors_of(points, residual).spread_fraction == pytest.approx(np.quantile(errors, 0.9))


def test_a_doubted_anchor_pulls_less() -> None:
    points = at(**LAYER)
    residual = np.zeros(len(points))
    residual[3] = 1.0
    trust = np.ones(len(points))
    trust[3] = 0.01

    trusted, doubted = (
        corrections(anchors_of(points, residual, weight), points) for weight in (None, trust)
    )

    assert np.abs(doubted).max() < 0.5 * np.abs(trusted).max()


def test_anchors_without_an_error_add_nothing() -> None:
    points = at(**LAYER)

    anchors = anchors_of(points, np.zeros(len(points)))

    assert (corrections(anchors, points) == 0).all()
    assert np.isfinite(anchors.weights).all()
