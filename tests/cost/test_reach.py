from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from cost.tables import row, table

from moeprof.cost.contexts import contexts_of
from moeprof.cost.local import NO_CURVES, fit_curves
from moeprof.cost.points import points_from_table
from moeprof.cost.reach import EXTRAPOLATING, NOTHING_SEEN, Reach, reaches_of, seen_of

if TYPE_CHECKING:
    from moeprof.cost.points import Points
    from moeprof.cost.reach import Reaches

LARGE = {"hidden_size": 4096}


def measured() -> Points:
    """Return two layers at 4 to 256 tokens, of which the second has larger batch sizes too."""
    rows = [row(batch_size=each) for each in (4, 16, 64, 256)]
    rows += [row(batch_size=each, **LARGE) for each in (4, 64, 1024)]
    return points_from_table(table(rows))


def asked(*rows: dict[str, Any]) -> Reaches:
    points = measured()
    contexts = contexts_of(points)
    curves = fit_curves(points, contexts, np.zeros(len(points)), np.ones(len(points)))
    wanted = points_from_table(table(list(rows)))
    return reaches_of(wanted, contexts_of(wanted), seen_of(points, contexts), curves)


@pytest.mark.parametrize(
    ("changes", "reach", "octaves"),
    [
        ({}, Reach.CURVE, 0),
        ({"batch_size": 32}, Reach.CURVE, 1),
        ({"routing_pattern": "uniform", "batch_size": 8}, Reach.PATTERN, 1),
        ({"tp_size": 2}, Reach.CONTEXT, 0),
        ({"ep_size": 4}, Reach.CONTEXT, 0),
        ({"expert_size": 1024}, Reach.SHAPE, 0),
        ({"top_k": 2}, Reach.SHAPE, 0),
        ({"batch_size": 1024}, Reach.BEYOND, 2),
        ({"batch_size": 1024, "routing_pattern": "uniform"}, Reach.BEYOND, 2),
        ({"batch_size": 1}, Reach.BEYOND, 2),
        ({"batch_size": 1024, "tp_size": 2}, Reach.CONTEXT, 0),
        ({"batch_size": 4096, "tp_size": 2}, Reach.BEYOND, 2),
        ({"batch_size": 8192, "expert_size": 1024}, Reach.BEYOND, 3),
        ({"kernel": "marlin"}, Reach.KERNEL, 0),
        ({"weight_dtype": "fp8"}, Reach.KERNEL, 0),
        ({"engine_version": "9"}, Reach.KERNEL, 0),
        ({"device_kind": "imported:h100-sxm"}, Reach.KERNEL, 0),
        ({"kernel": "marlin", "batch_size": 4096}, Reach.KERNEL, 0),
    ],
)
def test_a_point_reaches_as_far_as_what_is_missing(
    changes: dict, reach: Reach, octaves: float
) -> None:
    found = asked(row(**changes))

    assert Reach(found.reach[0]) is reach
    assert found.octaves[0] == octaves
    assert found.extrapolating[0] == (reach in EXTRAPOLATING)


def test_another_parallelism_of_a_measured_layer_is_no_extrapolation() -> None:
    found = asked(row(), row(routing_pattern="uniform"), row(tp_size=2), row(kernel="marlin"))

    assert found.extrapolating.tolist() == [False, False, False, True]


def test_where_nothing_was_seen_every_kernel_is_new() -> None:
    points = measured()

    found = reaches_of(points, contexts_of(points), NOTHING_SEEN, NO_CURVES)

    assert (found.reach == Reach.KERNEL).all()
    assert found.extrapolating.all()


def test_what_was_seen_is_the_span_of_each_kernel_on_each_gpu() -> None:
    rows = [row(batch_size=each) for each in (4, 64)]
    rows += [row(batch_size=2, **LARGE), row(batch_size=512, kernel="marlin")]
    points = points_from_table(table(rows))

    seen = seen_of(points, contexts_of(points))

    assert {key[0].split(" | ")[1]: span for key, span in seen.octaves.items()} == {
        "triton": (1, 6),
        "marlin": (9, 9),
    }
    assert len(seen.shapes) == 3
