"""The learning rate of a step."""

from __future__ import annotations

import math


def rate_fraction(step: int, *, num_steps: int, num_warm_up_steps: int) -> float:
    """Return the share of the highest learning rate at a step, from 0.

    A straight rise, then half a cosine to 0 at `num_steps` (arXiv:1608.03983, without restarts).
    """
    rise = (step + 1) / (num_warm_up_steps + 1)
    fall = 0.5 * (1 + math.cos(math.pi * step / num_steps))
    return min(1.0, rise) * fall
