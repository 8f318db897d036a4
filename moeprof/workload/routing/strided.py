"""The dealing of experts to tokens by a fixed stride, as aiconfigurator's collector balances them.

Source: https://github.com/ai-dynamo/aiconfigurator, `collector/helper.py`, function
`balanced_logits`. With the stride s = ceil(E / k), slot j of token i takes expert i + j s, modulo
E; a batch of fewer than s tokens is spread over the stride, token i starting at i s / B, rounded
down. Nothing is drawn. Over a whole cycle of E tokens all experts get k rows, so that large
batches are balanced; a small one leaves the same experts idle each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def strided_ids(*, num_tokens: int, num_experts: int, top_k: int) -> NDArray[np.int64]:
    """Return the expert ids of a batch, [num_tokens, top_k]."""
    stride = -(-num_experts // top_k)
    first = np.arange(num_tokens)
    if num_tokens < stride:
        first = first * stride // num_tokens
    ids: NDArray[np.int64] = (first[:, np.newaxis] + np.arange(top_k) * stride) % num_experts
    return ids


def strided_rows(*, num_tokens: int, num_experts: int, top_k: int) -> NDArray[np.int64]:
    """Return rows per expert, [num_experts], without the ids of tokens in whole cycles."""
    stride = -(-num_experts // top_k)
    num_cycles = max(0, (num_tokens - stride) // num_experts)
    rest = num_tokens - num_cycles * num_experts
    ids = strided_ids(num_tokens=rest, num_experts=num_experts, top_k=top_k)
    return num_cycles * top_k + np.bincount(ids.ravel(), minlength=num_experts)


def has_distinct_slots(num_experts: int, top_k: int) -> bool:
    """Whether the slots of one token are different experts, which the wrap may prevent."""
    stride = -(-num_experts // top_k)
    return len({slot * stride % num_experts for slot in range(top_k)}) == top_k
