from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable


def test_every_set_of_experts_is_equally_likely(
    route: Callable[..., object], used: Callable[..., list[list[int]]]
) -> None:
    # 60,000 draws of one of the 10 pairs: 6,000 each, standard deviation 73.
    routing = route("random", torch.zeros(60_000, 5), generator=torch.Generator().manual_seed(1))

    drawn = [tuple(pair) for pair in used(routing)]
    counts = [drawn.count(pair) for pair in combinations(range(5), 2)]
    assert max(abs(count - 6_000) for count in counts) < 5 * 73


def test_a_seed_says_what_is_drawn_and_draws_go_on(route: Callable[..., object]) -> None:
    logits = torch.zeros(50, 8)
    generator = torch.Generator().manual_seed(7)

    first = route("random", logits, generator=generator)
    later = route("random", logits, generator=generator)
    again = route("random", logits, generator=torch.Generator().manual_seed(7))

    assert torch.equal(first.experts, again.experts)
    assert not torch.equal(first.experts, later.experts)
