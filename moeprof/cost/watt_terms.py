"""The terms that average power is made of: rest, and joules per byte and FLOP over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.demand import demand_of
from moeprof.cost.terms import Part, Term, known_bandwidth, known_peak
from moeprof.hardware.catalogue import gpu, gpu_names
from moeprof.workload.occupancy import TILE_ROWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.contexts import Contexts
    from moeprof.cost.points import Points

WATT_TERMS: Final = (
    Term("rest", Part.LAUNCH, 1.0),
    Term("weights", Part.LAUNCH, 1.0),
    Term("activations", Part.LAUNCH, 1.0),
    Term("flops", Part.LAUNCH, 0.6),
    Term("tiles", Part.LAUNCH, 0.3),
    Term("launch", Part.LAUNCH, 0.3),
)
WATT_NUMBERS: Final = (
    "weights_bandwidth",
    "compute_rate",
    "activations_bandwidth",
    "tokens",
    "active",
    "rows",
    "rows_per_active",
    "fullest",
    "tiles_16",
    "tiles_64",
    "seconds",
)

# What each term is a share of, where energy is broken down.
WATT_SHARES: Final = ("rest", "weights", "activations", "compute", "compute", "launch")

# Priors, of which a fit keeps what the data do not contradict.
_REST_FRACTION: Final = 0.2  # of the power limit: an H100 at full clocks without work draws 120 W
_JOULES_PER_BYTE: Final = 50e-12  # HBM3 and the way to the registers: 5 to 7 pJ per bit
_JOULES_PER_FLOP: Final = 0.5e-12  # 700 W over the dense bf16 peak of an H100 is 0.7 pJ
_LAUNCH_JOULES: Final = 1e-3
_TILE_ROWS: Final = 64
_UNKNOWN_LIMIT_WATTS: Final = 300.0
_LITTLE: Final = 0.05  # of an expert or a row: keeps the logarithm of none finite
_LEAST: Final = 1e-12


def watt_terms(points: Points, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the watts of each term at coefficient 1, [num_points, len(WATT_TERMS)].

    `seconds`, [num_points], is the time that the energy is spread over.
    """
    demand = demand_of(points)
    tiles = points.occupancy.tiles[:, TILE_ROWS.index(_TILE_ROWS)] * _TILE_ROWS
    rows = np.maximum(points.occupancy.num_rows, 1e-9)
    wide = points.weight_dtype.numbers(lambda name: 1.0 if name in ("bf16", "fp16") else 0.5)
    columns = [
        _REST_FRACTION * limit_watts(points),
        demand.weight_bytes * _JOULES_PER_BYTE / seconds,
        demand.activation_bytes * _JOULES_PER_BYTE / seconds,
        demand.flops * wide * _JOULES_PER_FLOP / seconds,
        demand.flops * tiles / rows * wide * _JOULES_PER_FLOP / seconds,
        _LAUNCH_JOULES / seconds,
    ]
    return np.stack(np.broadcast_arrays(*columns), axis=-1)


def watt_contexts(points: Points, contexts: Contexts, seconds: NDArray[np.float64]) -> Contexts:
    """Return a context for every point: power depends on how busy a step keeps the GPU.

    Its numbers, in the order of `WATT_NUMBERS`, are logarithms of shares of the datasheet's
    bandwidth and FLOP/s that are in use over `seconds`, [num_points], and of counts.
    """
    demand = demand_of(points)
    occupancy = points.occupancy
    bandwidth = known_bandwidth(points)
    active, rows = occupancy.num_active + _LITTLE, occupancy.num_rows + _LITTLE
    tiles = dict(zip(TILE_ROWS, occupancy.tiles.T, strict=True))
    columns = [
        demand.weight_bytes / bandwidth / seconds,
        demand.flops / known_peak(points) / seconds,
        demand.activation_bytes / bandwidth / seconds,
        points.batch_size,
        active,
        rows,
        rows / active,
        occupancy.max_rows + _LITTLE,
        tiles[16] * 16 / rows,
        tiles[64] * 64 / rows,
        seconds,
    ]
    numbers = np.log(np.maximum(np.stack(columns, axis=-1), _LEAST))
    return contexts.of_each_point(numbers)


def limit_watts(points: Points) -> NDArray[np.float64]:
    """Return the power limit in force at each point, else the GPU's own, [num_points]."""
    known = set(gpu_names())
    own = points.gpu.numbers(
        lambda name: (
            (gpu(name).power_limit_watts if name in known else None) or _UNKNOWN_LIMIT_WATTS
        )
    )
    return np.where(np.isnan(points.power_limit_watts), own, points.power_limit_watts)
