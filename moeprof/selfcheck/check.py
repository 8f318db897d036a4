"""One audit: trials on simulated GPUs that chance has drawn, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from moeprof.hardware.gpu import GPU
    from moeprof.selfcheck.finding import Finding


@dataclass(frozen=True, slots=True)
class Check:
    """A name, what is tried how often, and how the outcomes of all trials are judged.

    `trial` is a function of a module, because it is sent to other processes; so is its outcome.
    """

    name: str
    figures: tuple[str, ...]  # the names of its findings
    num_trials: int  # at the default size
    trial: Callable[[GPU, np.random.Generator], Any]
    judge: Callable[[Sequence[Any]], tuple[Finding, ...]]


def random_of_trial(seed: int, check: str, index: int) -> np.random.Generator:
    """Return the chance of one trial, the same however trials are spread over processes."""
    return np.random.default_rng([seed, crc32(check.encode()), index])
