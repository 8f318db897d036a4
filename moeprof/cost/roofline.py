"""The roofline: the least time that a device's bandwidth and FLOP/s allow."""

from __future__ import annotations


def roofline_seconds(
    *, num_bytes: float, flops: float, bytes_per_second: float, flops_per_second: float
) -> float:
    """Return the longer of the time to move `num_bytes` and the time to compute `flops`.

    Source: Williams, Waterman and Patterson, "Roofline: an insightful visual performance model
    for multicore architectures", CACM 52 (4), 2009.
    """
    return max(num_bytes / bytes_per_second, flops / flops_per_second)
