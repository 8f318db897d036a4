from __future__ import annotations

import pytest

from moeprof.recipe.batch_sizes import expand


@pytest.mark.parametrize(
    ("written", "sizes"),
    [
        (4, (4,)),
        ("4", (4,)),
        ("1..4", (1, 2, 3, 4)),
        (" 2 .. 3 ", (2, 3)),
        ([8, 1, "2..3"], (1, 2, 3, 8)),
        ([1, 1, "1..2"], (1, 2)),
    ],
)
def test_numbers_ranges_and_lists_are_batch_sizes(written: object, sizes: tuple[int, ...]) -> None:
    assert expand(written) == sizes


@pytest.mark.parametrize("written", [0, -1, "0..4", "8..2", "a", 1.5, True, None, [], [[1]], "1-4"])
def test_what_is_no_batch_size_is_refused_in_words(written: object) -> None:
    with pytest.raises(ValueError, match="must"):
        expand(written)


@pytest.mark.parametrize("written", [10**12, "1..1000000000000"])
def test_a_slip_of_the_finger_is_refused_before_it_fills_the_memory(written: object) -> None:
    with pytest.raises(ValueError, match="at most 131072"):
        expand(written)
