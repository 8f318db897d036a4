from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from cost.tables import grid, row, table

from moeprof.cost.anchors import fit_anchors
from moeprof.cost.contexts import contexts_of
from moeprof.cost.local import NO_CURVES
from moeprof.cost.part_model import joined_parts
from moeprof.cost.points import points_from_table
from moeprof.cost.terms import term_seconds

if TYPE_CHECKING:
    import pyarrow as pa

    from moeprof.cost.model import CostModel
    from moeprof.cost.part_model import PartModel
    from moeprof.cost.points import Points


@pytest.fixture
def part(model: CostModel) -> PartModel:
    return model.latency


@pytest.fixture
def points(measured_table: pa.Table) -> Points:
    return points_from_table(measured_table)


def anchored(part: PartModel, points: Points, off_by: float) -> PartModel:
    residual = np.full(len(points), off_by)
    anchors = fit_anchors(points, contexts_of(points), residual, np.ones(len(points)), part.encoder)
    return replace(part, anchors=(*part.anchors, anchors))


def test_overheads_add_and_the_longest_of_the_rest_hides_the_others() -> None:
    parts = np.array([[1.0, 3.0, 4.0, 0.0], [1.0, 0.0, 0.0, 2.0], [1.0, 1e-3, 100.0, 1e-3]])

    found = joined_parts(parts)

    np.testing.assert_allclose(found, [6, 3, 101], rtol=1e-8)
    assert joined_parts(parts[:, :1]).tolist() == [1, 1, 1]


def test_a_cost_is_as_many_times_larger_as_all_of_its_terms(
    part: PartModel, points: Points
) -> None:
    contexts, terms = contexts_of(points), term_seconds(points)

    once, thrice = part.uncorrected(contexts, terms), part.uncorrected(contexts, 3 * terms)

    np.testing.assert_allclose(thrice, 3 * once)


def test_a_larger_term_never_makes_a_lower_cost(part: PartModel, points: Points) -> None:
    contexts, terms = contexts_of(points), term_seconds(points)
    before = part.uncorrected(contexts, terms)

    for place in range(terms.shape[1]):
        more = terms.copy()
        more[:, place] *= 2
        assert (part.uncorrected(contexts, more) >= before).all(), place


def test_parts_are_the_sums_of_their_terms(part: PartModel, points: Points) -> None:
    contexts, terms = contexts_of(points), term_seconds(points)
    costs = part.costs(contexts, terms)

    sums = part.part_costs(contexts, terms)

    np.testing.assert_allclose(sums.sum(axis=1), costs.sum(axis=1))
    np.testing.assert_allclose(sums[:, 0], costs[:, part.parts == 0].sum(axis=1))


def test_curves_bring_the_model_nearer_to_what_was_measured(
    part: PartModel, points: Points, measured_table: pa.Table
) -> None:
    contexts = contexts_of(points)
    plain = part.uncorrected(contexts, term_seconds(points))
    seconds = measured_table["latency_seconds"].to_numpy()

    corrected = plain * np.exp(part.corrections(points, contexts))

    before, after = (np.abs(np.log(each / seconds)) for each in (plain, corrected))
    assert np.median(after) < 0.5 * np.median(before)


def test_corrections_of_curves_and_of_every_adaptation_add_up(
    part: PartModel, points: Points
) -> None:
    contexts = contexts_of(points)
    one, two = anchored(part, points, 0.2), anchored(part, points, -0.1)
    both = anchored(one, points, -0.1)
    plain = part.corrections(points, contexts)

    added = [each.corrections(points, contexts) - plain for each in (one, two, both)]

    np.testing.assert_allclose(added[2], added[0] + added[1], atol=1e-12)


def test_a_model_without_curves_or_anchors_corrects_nothing(
    part: PartModel, points: Points
) -> None:
    bare = replace(part, curves=NO_CURVES)

    assert (bare.corrections(points, contexts_of(points)) == 0).all()
    assert bare.reaches(points, contexts_of(points)).extrapolating.sum() == 0


def test_where_a_model_was_adapted_its_interval_is_that_of_the_adaptation(
    part: PartModel, points: Points
) -> None:
    layer = points_from_table(table([row(hidden_size=3072, batch_size=n) for n in range(1, 9)]))
    adapted = anchored(part, layer, 0.3)
    contexts = contexts_of(layer)
    spread = adapted.spread(contexts)

    low, high = adapted.bounds(layer, contexts, adapted.reaches(layer, contexts))

    assert (spread == adapted.anchors[0].spread_fraction).all()
    assert (low == -spread).all()
    assert (high == spread).all()
    elsewhere = contexts_of(points)
    reaches = part.reaches(points, elsewhere)
    assert (adapted.spread(elsewhere) == 0).all()
    for before, after in zip(
        part.bounds(points, elsewhere, reaches),
        adapted.bounds(points, elsewhere, reaches),
        strict=True,
    ):
        assert (before == after).all()


def test_a_context_gets_one_set_of_coefficients_whatever_its_points(part: PartModel) -> None:
    points = grid()
    terms = term_seconds(points)

    costs = part.costs(contexts_of(points), terms)

    for hidden in np.unique(points.hidden_size):
        mine = points.hidden_size == hidden
        acts = (terms[mine] > 0).all(axis=0)
        coefficients = costs[mine][:, acts] / terms[mine][:, acts]
        np.testing.assert_allclose(coefficients, coefficients[:1].repeat(len(coefficients), axis=0))
