from __future__ import annotations

import numpy as np
from cost.tables import grid, row, table

from moeprof.cost.demand import demand_of, ideal_seconds
from moeprof.cost.features import physics_features, shape_features, vocabulary_of
from moeprof.cost.points import points_from_table


def test_every_column_has_a_name_and_every_value_of_a_known_gpu_is_finite() -> None:
    points = grid()

    for features in (shape_features, physics_features):
        found = features(points, vocabulary_of(points))

        assert found.values.shape == (len(points), len(found.names))
        assert len(set(found.names)) == len(found.names)
        assert np.isfinite(found.values).all()


def test_a_text_has_the_same_number_wherever_it_stands() -> None:
    both = points_from_table(table([row(kernel="a"), row(kernel="b")]))
    known = vocabulary_of(both)
    turned = points_from_table(table([row(kernel="c"), row(kernel="b"), row(kernel="a")]))

    first, second = shape_features(both, known), shape_features(turned, known)

    kernel = first.names.index("kernel")
    assert first.values[1, kernel] == second.values[1, kernel]
    assert first.values[0, kernel] == second.values[2, kernel]
    assert np.isnan(second.values[0, kernel])


def test_demand_is_that_of_the_dataset() -> None:
    # 128 active experts of 3 x 2048 x 768 weights in bf16, 128 rows.
    demand = demand_of(points_from_table(table([row()])))

    assert demand.weight_bytes[0] == 128 * 3 * 2048 * 768 * 2
    assert demand.activation_bytes[0] == 128 * 2 * (2048 + 768) * 2
    assert demand.flops[0] == 2 * 3 * 2048 * 768 * 128


def test_the_roofline_has_its_bound_of_memory_and_of_compute() -> None:
    points = points_from_table(table([row(), row(batch_size=100_000)]))
    demand = demand_of(points)

    found = ideal_seconds(points)

    assert found[0] == demand.num_bytes[0] / 4.8e12
    assert found[1] == demand.flops[1] / 9.89e14


def test_a_card_that_nobody_knows_has_no_roofline() -> None:
    unknown = row(device_kind="imported:some-card", device_name="Some Card")

    assert np.isnan(ideal_seconds(points_from_table(table([unknown]))))[0]
