"""Which forward passes of an engine's recording are warm-up or profiling, and not requests.

Engines run such passes on zeroed or repeated tokens when they start, capture CUDA graphs or keep
idle ranks in step. They can be most of a recording, and no request pays for them.
A pass is flagged for one of three signs:

- repeated tokens: in every layer the same `top_k` experts get at least 95 % of the rows of 8 tokens
  or more. Tokens that are alike route alike; others do so by chance with a probability that the
  number of layers and tokens makes negligible, and fewer than 32 such agreements are not judged;
- repeated pass: the rows of every expert at every layer equal those of the pass before, in 64 or
  more layers times tokens, as when one shape is run twice for capture. Only for passes of an
  engine: two requests may be equal, because the same prompt was sent twice;
- neighbour: a pass of fewer tokens, all of which choose the experts of a flagged neighbour of the
  first sign, as when graphs are captured for batches of 1, 2, 4 and so on.

Models of a single MoE layer are not judged: one layer agrees by chance too often.

Two things are no sign. A large or round number of tokens is not, because prefill in chunks makes
the same. And where every pass of a recording chooses the same experts, nothing is flagged: a model
that has collapsed to few experts looks the same. What cannot be told from a dummy is one prompt
sent 8 times or more at once and decoded in step: it is flagged, too.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_TOKENS_MIN: Final = 8
_AGREEMENTS_MIN: Final = 32
_CHOICES_MIN: Final = 64
_LAYERS_MIN: Final = 2
_ALIKE_FRACTION: Final = 0.95


@dataclass(frozen=True, slots=True)
class PassSign:
    """What of a pass tells whether it is a dummy."""

    num_tokens: int
    num_layers: int
    concentrated_fraction: float
    """Share of the rows at the `top_k` fullest experts, in the layer where it is least."""
    fullest: bytes
    """Hash of the `top_k` fullest experts of every layer."""
    counts: bytes
    """Hash of the rows of every expert at every layer."""


def pass_sign(counts: NDArray[Any], top_k: int) -> PassSign:
    """Return the signs of a pass of `counts`, [num_layers, num_experts], some in each layer."""
    rows = counts.sum(axis=1)
    order = np.argsort(-counts, axis=1, kind="stable")[:, :top_k]
    fullest = np.take_along_axis(counts, order, axis=1).sum(axis=1)
    return PassSign(
        num_tokens=int(rows.max()) // top_k,
        num_layers=len(counts),
        concentrated_fraction=float((fullest / np.maximum(rows, 1)).min()),
        fullest=_hash(np.sort(order, axis=1)),
        counts=_hash(counts),
    )


def dummy_passes(signs: Sequence[PassSign], *, are_requests: bool) -> list[bool]:
    """Return for each pass, in the order in which they ran, whether it is a dummy.

    `are_requests`: these are whole requests instead of passes of an engine.
    """
    if len({sign.fullest for sign in signs}) < 2:  # noqa: PLR2004 - nothing to tell apart
        return [False] * len(signs)
    repeated = [_repeats_a_token(sign) for sign in signs]
    if not are_requests:
        _spread_to_neighbours(signs, repeated)
        for index, (before, after) in enumerate(pairwise(signs)):
            if _repeats_the_pass(before, after):
                repeated[index] = repeated[index + 1] = True
    return repeated


def _repeats_a_token(sign: PassSign) -> bool:
    return (
        sign.num_tokens >= _TOKENS_MIN
        and sign.num_layers >= _LAYERS_MIN
        and (sign.num_tokens - 1) * sign.num_layers >= _AGREEMENTS_MIN
        and sign.concentrated_fraction >= _ALIKE_FRACTION
    )


def _repeats_the_pass(before: PassSign, after: PassSign) -> bool:
    return (
        before.counts == after.counts
        and after.num_tokens >= _TOKENS_MIN
        and after.num_layers >= _LAYERS_MIN
        and after.num_tokens * after.num_layers >= _CHOICES_MIN
    )


def _spread_to_neighbours(signs: Sequence[PassSign], flagged: list[bool]) -> None:
    for order in (range(1, len(signs)), range(len(signs) - 2, -1, -1)):
        step = 1 if order.step == 1 else -1
        for index in order:
            beside = index - step
            alike = signs[index].fullest == signs[beside].fullest
            if flagged[beside] and alike and signs[index].concentrated_fraction == 1.0:
                flagged[index] = True


def _hash(array: NDArray[Any]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()
