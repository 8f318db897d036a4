"""What of a step's weights an L2 cache keeps from one launch to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.hardware.catalogue import gpu, gpu_names
from moeprof.workload.dtypes import BYTES_PER_ELEMENT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.points import Points

_OWN_ENGINE: Final = "moeprof"
# Where reading from memory begins and where all is read from it, as a multiple of the cache: L40S
# under vLLM 0.24.0, exactly known active experts, 1 to 16 tokens. From 0.7 to 0.9 weights come at
# two to three times the memory's bandwidth, from 1.2 on at no more than it gives (medians, launches
# counted; 2,700 rows of aiconfigurator-core 0.12.0). A least-recently-used cache that is read in a
# circle does the same.
_ALL_KEPT: Final = 0.85
_NONE_KEPT: Final = 1.2
_NO_CACHE: Final = 1e12  # finite, so that a rank without active experts reads nothing, not NaN


def missed_fraction(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the weights that a launch reads from memory, [num_points].

    `times`, [num_points], is how many caches the active experts' weights fill.
    """
    share: NDArray[np.float64] = np.clip((times - _ALL_KEPT) / (_NONE_KEPT - _ALL_KEPT), 0.0, 1.0)
    return share


def caches_per_expert(points: Points) -> NDArray[np.float64]:
    """Return how many caches the weights of one active expert fill, [num_points].

    Others' benchmarks launch one step again and again, so that weights stay in the cache if they
    fit. moeprof's own sweeps rotate theirs, and where the cache is not known nothing is said to
    stay: far more than fit.
    """
    local = points.expert_size / points.tp_size
    operand = points.weight_dtype.numbers(BYTES_PER_ELEMENT.__getitem__)
    weight_bytes = points.num_projections * points.hidden_size * local * operand
    known = set(gpu_names())
    cache = points.gpu.numbers(
        lambda name: float((gpu(name).l2_bytes if name in known else None) or 0)
    )
    own = np.array([name.startswith(_OWN_ENGINE) for name in points.engine.names], dtype=bool)
    kept = (cache > 0) & ~own[points.engine.codes]
    return np.where(kept, weight_bytes / np.maximum(cache, 1.0), _NO_CACHE)
