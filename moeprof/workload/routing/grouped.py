"""Gates that let a token choose from the best groups of experts only, as DeepSeek-V3's does.

Sources: DeepSeek-AI, "DeepSeek-V3 Technical Report" (arXiv:2412.19437), section 2.1.2, and the
model's published `modeling_deepseek.py`, function `noaux_tc`: experts lie in equal groups of
consecutive numbers, a group scores the sum of its two best experts, and a token's experts come
from the best groups. Collectors that feed such a gate with scores of their own making, high for
the experts they mean and alike for all others, get other experts than they mean where those lie in
more groups than are allowed. Ties go to the lowest number, of groups and of experts: counted so,
the latencies that aiconfigurator's tables have for DeepSeek-V3 at 2, 4, 8, 16 and 32 tokens are
those of 12, 20, 35, 66 and 128 active experts under vLLM 0.24.0, SGLang 0.5.14 and TensorRT-LLM's
low-latency kernels, where the assignment that was meant has 16, 32, 64, 128 and 256.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUM_BEST: Final = 2  # experts whose scores make a group's


def is_limiting(*, num_experts: int, top_k: int, num_groups: int, num_allowed: int) -> bool:
    """Whether the groups can keep a token from any `top_k` experts; else they change nothing."""
    can_lie_in = min(top_k, num_groups)
    return can_lie_in > num_allowed or num_experts // num_groups < NUM_BEST


def limited_ids(
    ids: NDArray[np.int64], *, num_experts: int, num_groups: int, num_allowed: int
) -> NDArray[np.int64]:
    """Return the experts that a gate takes where `ids` score high, both [num_tokens, top_k].

    The ids of a token are distinct. What a token cannot have is replaced by the lowest experts of
    its groups that it does not have.
    """
    size, top_k = num_experts // num_groups, ids.shape[1]
    group = ids // size
    marks = group[:, :, np.newaxis] == np.arange(num_groups)
    score = np.minimum(marks.sum(axis=1), NUM_BEST)
    best = np.argsort(-score, axis=1, kind="stable")[:, :num_allowed]
    best.sort(axis=1)
    is_allowed = np.zeros(score.shape, dtype=bool)
    np.put_along_axis(is_allowed, best, values=True, axis=1)
    is_kept = np.take_along_axis(is_allowed, group, axis=1)
    # Of the first k experts of the allowed groups at most as many are kept as slots are taken.
    place = np.arange(top_k)
    others = best[:, place // size] * size + place % size
    is_free = (others[:, :, np.newaxis] != ids[:, np.newaxis, :]).all(axis=2)
    num_missing = top_k - is_kept.sum(axis=1, keepdims=True)
    is_filled = is_free & (np.cumsum(is_free, axis=1) <= num_missing)
    taken = np.concatenate([is_kept, is_filled], axis=1)
    slots = np.argsort(~taken, axis=1, kind="stable")[:, :top_k]
    found: NDArray[np.int64] = np.take_along_axis(
        np.concatenate([ids, others], axis=1), slots, axis=1
    )
    return found
