"""Which token of which request stands in each slot of the batch, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_RESERVED: Final = 4  # one request in so many is not simulated: balancers are shown it
_REQUESTS_PER_SEED: Final = 1 << 32
_PROFILED_TOKENS: Final = 4096
_PROFILED_STEPS_MIN: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class Slots:
    """What each slot holds; both are [num_steps, batch_size].

    `requests` are places among the requests drawn from, `positions` count a request's tokens.
    """

    requests: NDArray[np.int64]
    positions: NDArray[np.int64]


def generator(seed: int, *words: int) -> np.random.Generator:
    """Return the random numbers of one purpose, which depend on nothing but these numbers."""
    return np.random.default_rng([seed % (1 << 64), *words])


def split(num_requests: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places of the requests to simulate, and of a random fourth to profile.

    There must be at least two.
    """
    assert num_requests > 1, "with one request there is nothing to split"
    order = generator(seed, 0).permutation(num_requests)
    num_reserved = max(1, num_requests // _RESERVED)
    return np.sort(order[num_reserved:]), np.sort(order[:num_reserved])


def draw_slots(
    lengths: NDArray[np.int64],
    *,
    context_tokens: int,
    num_steps: int,
    batch_size: int,
    random: np.random.Generator,
) -> Slots:
    """Return a batch whose requests end and are followed by others.

    The batch is met in the midst of work: every slot starts anywhere from `context_tokens` on in
    a request of `lengths`, [num_requests], each above that; later requests begin just there. A
    request stands in one slot at a time, as long as there are enough of them for all slots.
    """
    requests = np.empty((num_steps, batch_size), dtype=np.int64)
    positions = np.empty((num_steps, batch_size), dtype=np.int64)
    held = np.full(batch_size, -1)
    free_at = np.zeros(batch_size, dtype=np.int64)
    everyone = np.arange(len(lengths))
    while (step := int(free_at.min())) < num_steps:
        slot = int(free_at.argmin())
        held[slot] = -1
        idle = np.setdiff1d(everyone, held)
        request = int(random.choice(idle if len(idle) else everyone))
        first = context_tokens if step else int(random.integers(context_tokens, lengths[request]))
        end = min(step + int(lengths[request]) - first, num_steps)
        requests[step:end, slot] = request
        positions[step:end, slot] = np.arange(first, first + end - step)
        held[slot], free_at[slot] = request, end
    return Slots(requests, positions)


def numbers(requests: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return numbers of requests, [num_seeds, …], that no two seeds share."""
    seeds = np.arange(len(requests), dtype=np.int64).reshape(-1, *[1] * (requests.ndim - 1))
    return seeds * _REQUESTS_PER_SEED + requests


def num_steps_profiled(batch_size: int) -> int:
    """Return how many batches a balancer is shown: of some 4,096 tokens, and at least 16."""
    return max(_PROFILED_STEPS_MIN, _PROFILED_TOKENS // batch_size)


def rows_of_steps(
    experts: Sequence[NDArray[np.integer]], tokens: NDArray[np.int64], num_experts: int
) -> NDArray[np.int64]:
    """Return rows per expert, [num_steps, num_layers, num_experts].

    `experts`, one [num_tokens, top_k] for each layer; `tokens`, [num_steps, batch_size], are places
    in them.
    """
    num_steps = len(tokens)
    first = np.arange(num_steps).reshape(-1, 1, 1) * num_experts
    counts = [
        np.bincount((chosen[tokens] + first).ravel(), minlength=num_steps * num_experts)
        for chosen in experts
    ]
    return np.stack([count.reshape(num_steps, num_experts) for count in counts], axis=1)
