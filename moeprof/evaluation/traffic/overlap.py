"""How many experts two tokens have in common, and the correlation of scores that tells."""

from __future__ import annotations

from math import exp, pi, sqrt
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import ndtri

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST: Final = 0.9999


def mean_overlaps(
    logits: NDArray[np.floating],
    top_k: int,
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    *,
    far_tokens: int,
) -> tuple[float, float, float]:
    """Return the mean number of experts that plain top-k chooses for both tokens of a pair.

    Of pairs of different requests, of pairs `far_tokens` or more apart in one request, and of
    consecutive tokens of one; all pairs that there are. `logits`, [num_tokens, num_experts]; a
    request's tokens stand together from `starts`, `lengths` of them, both [num_requests].
    """
    chosen = np.zeros(logits.shape)
    order = np.argpartition(-logits, top_k - 1, axis=1)[:, :top_k]
    np.put_along_axis(chosen, order, 1.0, axis=1)
    num_tokens = len(chosen)
    of_request = np.add.reduceat(chosen, starts, axis=0)
    same = float((of_request**2).sum())
    apart = float((chosen.sum(axis=0) ** 2).sum()) - same
    num_apart = num_tokens**2 - int((lengths**2).sum())
    request = np.repeat(np.arange(len(lengths)), lengths)
    # Every pair of one request stands twice in `same`, and every token with itself once.
    far, num_far = same - float(chosen.sum()), int((lengths**2).sum()) - num_tokens
    next_to = 0.0
    for lag in range(1, far_tokens):
        pairs = (request[lag:] == request[:-lag]).nonzero()[0]
        found = float((chosen[pairs] * chosen[pairs + lag]).sum())
        far, num_far = far - 2 * found, num_far - 2 * len(pairs)
        if lag == 1:
            next_to = found / len(pairs)
    return apart / num_apart, far / num_far, next_to


def correlation(both_fraction: float, one_fraction: float) -> float:
    """Return the correlation of two standard normals by how often both are above a bar.

    `one_fraction`, in 0..1, is how often each is. The derivative of the joint probability by the
    correlation is the density at the bar (Plackett, Biometrika 41, 1954).
    """
    bar = -float(ndtri(one_fraction))

    def both(found: float) -> float:
        def density(at: float) -> float:
            return exp(-(bar**2) / (1 + at)) / (2 * pi * sqrt(1 - at**2))

        return one_fraction**2 + float(quad(density, 0, found)[0])

    if not both(-_MOST) < both_fraction < both(_MOST):
        return _MOST if both_fraction > one_fraction**2 else -_MOST
    return float(brentq(lambda at: both(at) - both_fraction, -_MOST, _MOST))
