"""Draws of distinct experts for every token of a batch at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def weighted_without_replacement(
    rng: np.random.Generator, log_weights: NDArray[np.float64], num_tokens: int, top_k: int
) -> NDArray[np.int64]:
    """Draw `top_k` distinct experts per token, [num_tokens, top_k], in the order of drawing.

    The Gumbel top-k trick: the k largest of log-weight plus Gumbel noise are distributed as k
    successive draws without replacement, each in proportion to the weights that remain (Kool, van
    Hoof and Welling 2019, arXiv:1903.06059; in its exponential form Efraimidis and Spirakis 2006).
    `log_weights` is [num_experts], finite, and need not be normalised.
    """
    # Minus the logarithm of a standard exponential is Gumbel noise, and is cheaper to draw.
    noise = rng.standard_exponential((num_tokens, len(log_weights)))
    ascending = np.log(noise) - log_weights
    return _smallest(ascending, top_k)


def hot_and_cold(
    rng: np.random.Generator,
    hot: NDArray[np.int64],
    cold: NDArray[np.int64],
    *,
    num_hot_picks: NDArray[np.int64],
    top_k: int,
) -> NDArray[np.int64]:
    """Draw `num_hot_picks[t]` of token t's experts from `hot` and the rest from `cold`.

    Both draws are uniform without replacement; returns [num_tokens, top_k], slots shuffled.
    """
    num_tokens = len(num_hot_picks)
    from_hot = hot[_smallest(rng.random((num_tokens, len(hot))), min(top_k, len(hot)))]
    from_cold = cold[_smallest(rng.random((num_tokens, len(cold))), min(top_k, len(cold)))]
    slot = np.arange(top_k)
    picks = num_hot_picks[:, np.newaxis]
    ids = np.where(
        slot < picks,
        np.take_along_axis(from_hot, np.minimum(slot, from_hot.shape[1] - 1)[np.newaxis], axis=1),
        np.take_along_axis(from_cold, np.clip(slot - picks, 0, from_cold.shape[1] - 1), axis=1),
    )
    return rng.permuted(ids, axis=1)


def deal_evenly(
    rng: np.random.Generator, experts: NDArray[np.int64], num_tokens: int, top_k: int
) -> NDArray[np.int64]:
    """Deal the experts to tokens so that their row counts differ by at most one.

    Every expert is dealt once, in a fresh random order, before any is dealt again. A token that
    takes the last experts of one round takes others from the next. Returns [num_tokens, top_k].
    """
    num_experts = len(experts)
    num_rounds = -(-num_tokens * top_k // num_experts)
    rounds = rng.permuted(np.tile(experts, (num_rounds, 1)), axis=1)
    for index in range(1, num_rounds):
        num_taken = index * num_experts % top_k
        if num_taken:
            last = rounds[index - 1, -num_taken:]
            rounds[index] = _avoiding(rng, rounds[index], last, num_head=top_k - num_taken)
    return rounds.ravel()[: num_tokens * top_k].reshape(num_tokens, top_k)


def deal_counts(rng: np.random.Generator, rows: NDArray[np.int64], top_k: int) -> NDArray[np.int64]:
    """Deal exactly `rows[e]` rows to each expert e, distinct within each token.

    `rows` sums to num_tokens x top_k and no entry exceeds num_tokens. The rows of one expert lie
    in a run that passes each token at most once (systematic sampling in random order, Madow
    1949); then tokens and slots are shuffled. Returns [num_tokens, top_k].
    """
    order = rng.permutation(len(rows))
    runs = np.repeat(order, rows[order])
    ids = runs.reshape(top_k, -1).T
    return rng.permuted(rng.permutation(ids, axis=0), axis=1)


def _smallest(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return the columns of the `count` smallest values of each line, smallest first."""
    if count < values.shape[1]:
        columns = np.argpartition(values, count - 1, axis=1)[:, :count]
    else:
        columns = np.broadcast_to(np.arange(count), values.shape)
    order = np.argsort(np.take_along_axis(values, columns, axis=1), axis=1)
    return np.take_along_axis(columns, order, axis=1)


def _avoiding(
    rng: np.random.Generator,
    round_: NDArray[np.int64],
    taken: NDArray[np.int64],
    *,
    num_head: int,
) -> NDArray[np.int64]:
    """Return the round in an order whose first `num_head` experts are none of `taken`."""
    is_taken = np.isin(round_, taken)
    free = round_[~is_taken]
    rest = np.concatenate([free[num_head:], round_[is_taken]])
    return np.concatenate([free[:num_head], rng.permutation(rest)])
