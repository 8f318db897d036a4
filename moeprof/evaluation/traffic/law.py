"""The law that generated gate logits follow, fitted to recorded ones.

Of one layer, the score of an expert for a token is

    x = sqrt(P) expert + sqrt(1 - P) (sqrt(R) request + sqrt(1 - R) token),

each part a standard normal of its own for every expert, the request's staying for all its tokens,
the token's an autoregressive series of first order with coefficient M. The logit is Tukey's
g-distribution of it, scale (exp(g x) - 1) / g (Hoaglin, "Summarizing shape numerically: the g-and-h
distributions", in Exploring Data Tables, Trends, and Shapes, Wiley 1985). What is fitted:

- P, R and M by choices, because choices are what a step pays for: how many experts plain top-k
  chooses for two tokens both, the two being of different requests, far apart in one request, or
  consecutive. A choice is a score above a bar, so each of the three gives the correlation of
  two scores (tetrachoric, Pearson 1900), which is P, P + (1 - P) R and P + (1 - P) (R + (1 - R) M);
- scale and g by the mean gap between the logits of rank k and k + 1, which is what re-routing
  costs, and by the mean share of the softmax that the first expert has.

For other numbers of experts g is kept, and the scale is what gives the first expert the same share:
a gate that is trained sets its own scale. Every expert is independent of every other: which
experts go together is not followed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from scipy.optimize import brentq

from moeprof.errors import TraceError
from moeprof.evaluation.traffic.overlap import correlation, mean_overlaps

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from moeprof.evaluation.traffic.traced import TracedTokens

_SKEWNESS: Final = (-1.0, 2.0)  # searched
_SCALES_NATS: Final = (1e-3, 30.0)
_DRAWN: Final = 1 << 20  # scores by which scale and skewness are found
_MEMORY_MAX: Final = 0.999
_FAR_TOKENS: Final = 8  # apart in a request, for the token's own part to be forgotten


@dataclass(frozen=True, slots=True)
class LogitLaw:
    """How the logits of one layer are distributed; the first two are shares of variance."""

    popularity_fraction: float
    """P: what is an expert's for all tokens."""
    request_fraction: float
    """R: of the rest, what is an expert's for all tokens of one request."""
    memory_fraction: float
    """M: of what is a token's, the correlation with the next token's."""
    top_share_fraction: float
    """The first expert's mean share of the softmax over all."""
    scale_nats: float
    """Logits are logarithms of odds, so in nats."""
    skewness: float
    """Tukey's g: above 0, a few experts stand out."""

    def logits(self, scores: Tensor) -> Tensor:
        """Return the logits of standard normal scores, in their shape."""
        if self.skewness == 0:
            return scores * self.scale_nats
        return torch.expm1(scores * self.skewness).mul_(self.scale_nats / self.skewness)


def fit_law(traced: TracedTokens) -> LogitLaw:
    """Return the law that a trace's layers follow on the average.

    Raises TraceError: its gate chooses all experts; it has not two requests, one of them with
    tokens far apart; or its gap and first share go together with no skewness searched.
    """
    if traced.top_k >= traced.num_experts:
        raise TraceError(
            f"{traced.path}: must choose fewer than its {traced.num_experts} experts for each "
            "token to be followed by generated traffic"
        )
    if len(traced.lengths) < 2 or traced.lengths.max() <= _FAR_TOKENS:  # noqa: PLR2004 - two
        raise TraceError(
            f"{traced.path}: must have two requests, one of them longer than {_FAR_TOKENS} tokens, "
            f"to be followed by generated traffic, has {len(traced.lengths)}, the longest of "
            f"{traced.lengths.max()}"
        )
    layers = [logits.numpy() for logits in traced.logits]
    used = traced.top_k / traced.num_experts
    overlaps = [
        mean_overlaps(each, traced.top_k, traced.starts, traced.lengths, far_tokens=_FAR_TOKENS)
        for each in layers
    ]
    apart, within, next_to = (
        correlation(float(each) / traced.num_experts, used) for each in np.mean(overlaps, axis=0)
    )
    popularity = max(apart, 0.0)
    request = max((within - popularity) / (1 - popularity), 0.0)
    memory = ((next_to - popularity) / (1 - popularity) - request) / (1 - request)
    gap, top = np.mean([cut_gap_and_top_share(each, traced.top_k) for each in layers], axis=0)
    law = LogitLaw(
        popularity_fraction=popularity,
        request_fraction=request,
        memory_fraction=min(max(memory, 0.0), _MEMORY_MAX),
        top_share_fraction=float(top),
        scale_nats=1.0,
        skewness=0.0,
    )
    return _with_shape(law, float(gap), traced)


def rescaled(law: LogitLaw, num_experts: int) -> LogitLaw:
    """Return the law whose first of `num_experts` experts has the share that `law` tells."""
    assert num_experts > 1, "one expert has the whole softmax"
    shape = _shape(law, _scores(num_experts))
    top = law.top_share_fraction

    def missing(scale: float) -> float:
        return _top_share(shape * scale) - top

    # Of two or three experts, even equal logits may give the first one more than that.
    low, high = _SCALES_NATS
    scale = low if missing(low) > 0 else float(brentq(missing, low, high, xtol=1e-5))
    return replace(law, scale_nats=scale)


def cut_gap_and_top_share(logits: NDArray[np.floating], top_k: int) -> tuple[float, float]:
    """Return the mean gap of logits of rank k and k + 1, and the first expert's mean share.

    `logits`, [num_tokens, num_experts] with more experts than `top_k`; the gap is in nats, the
    share that of the softmax over all experts.
    """
    return _cut_gap(logits, top_k), _top_share(logits)


def _cut_gap(logits: NDArray[np.floating], top_k: int) -> float:
    split = np.partition(-logits, (top_k - 1, top_k), axis=1)
    return float((split[:, top_k] - split[:, top_k - 1]).mean(dtype=np.float64))


def _top_share(logits: NDArray[np.floating]) -> float:
    below = np.exp(logits - logits.max(axis=1, keepdims=True))
    return float((1 / below.sum(axis=1, dtype=np.float64)).mean())


def _with_shape(law: LogitLaw, gap: float, traced: TracedTokens) -> LogitLaw:
    """Return the law with the scale and skewness that have the gap and the first share."""
    scores = _scores(traced.num_experts)

    def scale_and_top(skewness: float) -> tuple[float, float]:
        shape = _shape(replace(law, skewness=skewness), scores)
        scale = gap / _cut_gap(shape, traced.top_k)
        return scale, _top_share(shape * scale)

    top = law.top_share_fraction
    least, most = (scale_and_top(each)[1] for each in _SKEWNESS)
    if not least < top < most:
        raise TraceError(
            f"{traced.path}: with a gap of {gap:.3g} at the cut, the first expert's share of the "
            f"softmax must lie between {least:.3g} and {most:.3g} for generated traffic to follow "
            f"the logits, it is {top:.3g}"
        )
    skewness = float(brentq(lambda each: scale_and_top(each)[1] - top, *_SKEWNESS, xtol=1e-4))
    return replace(law, skewness=skewness, scale_nats=scale_and_top(skewness)[0])


def _scores(num_experts: int) -> NDArray[np.float32]:
    # The same for every trace: a fit is no matter of chance.
    draw = np.random.default_rng(0)
    shape = (max(1, _DRAWN // num_experts), num_experts)
    return draw.standard_normal(shape, dtype=np.float32)


def _shape(law: LogitLaw, scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logits of scores at a scale of 1."""
    found: NDArray[np.float32] = (
        replace(law, scale_nats=1.0).logits(torch.from_numpy(scores)).numpy()
    )
    return found
