"""Row counts under the power law with which NVIDIA's aiconfigurator labels its MoE tables.

Source: https://github.com/ai-dynamo/aiconfigurator, `collector/helper.py`, function
`power_law_logits_v3` and what it calls, and the notes on it beside the collectors. There, each
expert's row count comes from one sample x of the density proportional to x^-a on [lower, upper]:

- lower, upper = 1, 0.8 x tokens if there are more rows than experts, else 0.01, 2;
- the samples are scaled to sum to the number of rows, and rounded;
- no expert can have more rows than there are tokens: the excess goes to the emptiest experts;
- what rounding left over or took too much is given to the emptiest or taken from the fullest.

So a is the exponent of the distribution *of* the counts, not of count against rank as in Zipf's
law. The collector repairs its counts rank by rank and afterwards moves the fullest rank to rank 0;
here there is one rank, because placement is decided elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moeprof.workload.routing.packed import packed_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rows_by_power_law(
    quantiles: NDArray[np.float64],
    exponent: float,
    *,
    num_tokens: int,
    top_k: int,
    packed: bool = False,
) -> NDArray[np.int64]:
    """Return rows per expert, [num_experts], summing to num_tokens x top_k.

    `quantiles`, [num_experts], each in 0..1, say where in the distribution each expert lies: the
    larger, the hotter. They are kept apart from the bounds so that the same experts are hot at
    every batch size. With `packed` the counts are mended as `packed` says.
    """
    num_rows = num_tokens * top_k
    crowded = num_rows > len(quantiles)
    lower, upper = (1.0, 0.8 * num_tokens) if crowded else (0.01, 2.0)
    samples = truncated_power_law(quantiles, exponent, lower, upper)
    wanted = np.rint(samples / samples.sum() * num_rows).astype(np.int64)
    if packed:
        bound, total = (np.array([[each]]) for each in (num_tokens, num_rows))
        mended: NDArray[np.int64] = packed_rows(wanted[np.newaxis], bound, total)[0]
        return mended
    rows = np.minimum(wanted, num_tokens)
    rows = _fill_emptiest(rows, int((wanted - rows).sum()))
    missing = num_rows - int(rows.sum())
    return _fill_emptiest(rows, missing) if missing > 0 else -_fill_emptiest(-rows, -missing)


def truncated_power_law(
    quantiles: NDArray[np.float64],
    exponent: float,
    lower: float | NDArray[np.float64],
    upper: float | NDArray[np.float64],
) -> NDArray[np.float64]:
    """Invert the distribution function of the density x^-exponent on [lower, upper].

    The bounds may be arrays that broadcast against `quantiles`.

    With t = 1 - exponent, x^t is linear in the quantile between lower^t and upper^t; at t = 0 its
    limit is that log x is. The powers are taken of upper / lower, so that a steep exponent cannot
    overflow, through expm1 and log1p, so that an exponent near 1 loses no digits.
    """
    t = 1.0 - exponent
    ratio = np.log(upper / lower)
    if t == 0.0:
        log_samples: NDArray[np.float64] = ratio * quantiles
    else:
        log_samples = np.log1p(np.expm1(t * ratio) * quantiles) / t
    samples: NDArray[np.float64] = lower * np.exp(log_samples)
    return samples


def _fill_emptiest(rows: NDArray[np.int64], num_extra: int) -> NDArray[np.int64]:
    """Add rows one by one, each to the expert with fewest, the first of them in a tie."""
    if num_extra == 0:
        return rows
    ascending = np.sort(rows)
    # needed[i]: rows it takes to lift the i + 1 emptiest experts to the level of number i.
    needed = np.arange(len(rows)) * ascending - np.concatenate([[0], np.cumsum(ascending)[:-1]])
    num_lifted = int(np.searchsorted(needed, num_extra, side="right"))
    level, num_left = divmod(int(ascending[:num_lifted].sum()) + num_extra, num_lifted)
    filled = np.maximum(rows, level)
    filled[np.flatnonzero(rows <= level)[:num_left]] += 1
    return filled
