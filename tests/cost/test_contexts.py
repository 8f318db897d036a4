from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cost.tables import grid, row, table

from moeprof.cost.contexts import FLAGS, NUMBERS, SIZES, contexts_of, kernel_names
from moeprof.cost.points import points_from_table


def flags_of(**changes: Any) -> dict[str, float]:
    contexts = contexts_of(points_from_table(table([row(**changes)])))
    return dict(zip(FLAGS, contexts.flags[0].tolist(), strict=True))


def test_all_points_of_a_layer_share_one_context() -> None:
    points = grid()

    contexts = contexts_of(points)

    assert len(contexts) == 4
    assert contexts.numbers.shape == (4, len(NUMBERS))
    for place, name in enumerate(SIZES):
        assert (contexts.sizes[contexts.index, place] == getattr(points, name)).all(), name


def test_batch_size_and_pattern_make_no_new_context() -> None:
    rows = [row(), row(batch_size=99), row(routing_pattern="uniform"), row(die_celsius=80.0)]

    assert len(contexts_of(points_from_table(table(rows)))) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": "cutlass"},
        {"engine_version": "0.22.0"},
        {"device_kind": "imported:h100-sxm"},
        {"weight_dtype": "fp8"},
        {"activation_dtype": "fp8"},
        {"hidden_size": 4096},
        {"top_k": 4},
        {"num_projections": 2},
        {"tp_size": 2},
        {"ep_size": 2},
    ],
)
def test_what_changes_a_kernel_s_work_makes_a_new_context(changes: dict) -> None:
    contexts = contexts_of(points_from_table(table([row(), row(**changes), row()])))

    assert len(contexts) == len(set(contexts.keys())) == 2
    assert contexts.index[0] == contexts.index[2] != contexts.index[1]


def test_contexts_do_not_depend_on_the_order_of_points() -> None:
    points = grid()
    order = np.random.default_rng(0).permutation(len(points))

    contexts, shuffled = contexts_of(points), contexts_of(points.take(order))

    keys, shuffled_keys = contexts.keys(), shuffled.keys()
    assert sorted(keys) == sorted(shuffled_keys)
    expected = [keys[each] for each in contexts.index[order]]
    assert [shuffled_keys[each] for each in shuffled.index] == expected


def test_taking_points_drops_contexts_and_names_that_are_no_longer_used() -> None:
    points = points_from_table(table([row(), row(kernel="cutlass"), row(kernel="cutlass")]))

    contexts = contexts_of(points).take(np.array([False, True, True]))

    assert len(contexts) == 1
    assert contexts.index.tolist() == [0, 0]
    assert contexts.kernel.used() == ("vllm 0.24.0 | cutlass | bf16 | bf16",)
    assert contexts.keys() == contexts_of(points.take(np.array([1, 2]))).keys()


def test_a_context_of_each_point_keeps_the_point_s_kernel_and_sizes() -> None:
    points = grid()
    contexts = contexts_of(points)
    numbers = np.arange(2.0 * len(points)).reshape(-1, 2)

    each = contexts.of_each_point(numbers)

    assert each.index.tolist() == list(range(len(points)))
    assert each.numbers is numbers
    assert (each.sizes == contexts.sizes[contexts.index]).all()
    assert each.kernel.texts() == kernel_names(points)


def test_flags_say_the_family_and_the_formats_of_a_kernel() -> None:
    assert [name for name, flag in flags_of(kernel="Triton_MoE").items() if flag] == ["triton"]
    cutlass = flags_of(kernel="flashinfer", weight_dtype="fp8", activation_dtype="fp8")
    assert {name for name, flag in cutlass.items() if flag} == {
        "cutlass",
        "narrow_activations",
        "fp8",
    }
    marlin = flags_of(kernel="marlin", weight_dtype="int4")
    assert {name for name, flag in marlin.items() if flag} == {"marlin", "weight_only", "fp8"}


def test_the_numbers_of_a_context_are_finite_for_the_smallest_layer() -> None:
    least = row(hidden_size=1, expert_size=1, num_experts=1, top_k=1, num_projections=1)

    assert np.isfinite(contexts_of(points_from_table(table([least]))).numbers).all()
