from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from moeprof.gate.grouped_sigmoid import GroupedSigmoidRule
from moeprof.router.policies.ranking import NEVER, order_keys, rank

FLOATS = st.floats(width=32, allow_nan=False)


@given(st.lists(FLOATS, min_size=1, max_size=20))
def test_keys_order_as_the_values_do_and_ties_by_the_lower_index(values: list[float]) -> None:
    keys = order_keys(torch.tensor([values]))[0].tolist()

    by_key = sorted(range(len(values)), key=keys.__getitem__, reverse=True)
    assert by_key == sorted(range(len(values)), key=lambda index: (-values[index], index))


def test_of_equal_values_the_favoured_go_first() -> None:
    values = torch.tensor([[1.0, 1.0, 2.0, -0.0, 0.0]])
    favoured = torch.tensor([[False, True, False, False, True]])

    keys = order_keys(values, favoured)[0]

    assert keys.argsort(descending=True).tolist() == [2, 1, 0, 4, 3]


def test_what_a_family_forbids_is_never_liked() -> None:
    rule = GroupedSigmoidRule(
        4, 1, 2, 1, renormalised=True, scaling_factor=1.0, correction_bias=torch.zeros(4)
    )

    ranking = rank(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), rule)

    assert ranking.allowed.tolist() == [[False, False, True, True]]
    assert (ranking.keys[0, :2] == NEVER).all()
    assert ranking.own.tolist() == [[False, False, False, True]]
