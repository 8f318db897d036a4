"""What points demand of a GPU, bytes and FLOPs, and the least time its datasheet allows for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moeprof.cost.labels import joined
from moeprof.hardware.catalogue import gpu, gpu_names
from moeprof.hardware.peaks import peak_format
from moeprof.workload.dtypes import BYTES_PER_ELEMENT
from moeprof.workload.workload import FLOPS_PER_WEIGHT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.points import Points


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """Bytes of the active experts' weights and of rows in and out, and FLOPs; each [num_points]."""

    weight_bytes: NDArray[np.float64]
    activation_bytes: NDArray[np.float64]
    flops: NDArray[np.float64]

    @property
    def num_bytes(self) -> NDArray[np.float64]:
        """All bytes that have to move, [num_points]."""
        return self.weight_bytes + self.activation_bytes


def demand_of(
    points: Points,
    num_active: NDArray[np.float64] | None = None,
    num_rows: NDArray[np.float64] | None = None,
) -> Demand:
    """Return what each point demands of its rank, by its occupancy or by the counts given.

    Weights: every active expert's, read once. Activations: each row is read and written at the
    hidden size and at the rank's slice of the expert size, as the dataset counts them.
    """
    active = points.occupancy.num_active if num_active is None else num_active
    rows = points.occupancy.num_rows if num_rows is None else num_rows
    local_size = points.expert_size / points.tp_size
    weights = points.num_projections * points.hidden_size * local_size
    row_elements = 2 * (points.hidden_size + local_size)
    weight_bytes = points.weight_dtype.numbers(BYTES_PER_ELEMENT.__getitem__)
    activation_bytes = points.activation_dtype.numbers(BYTES_PER_ELEMENT.__getitem__)
    return Demand(
        weight_bytes=active * weights * weight_bytes,
        activation_bytes=rows * row_elements * activation_bytes,
        flops=FLOPS_PER_WEIGHT * weights * rows,
    )


def datasheet_bytes_per_second(points: Points) -> NDArray[np.float64]:
    """Return the peak memory bandwidth of each point's GPU; NaN: not in the catalogue."""
    known = set(gpu_names())
    return points.gpu.numbers(
        lambda name: gpu(name).memory_bytes_per_second if name in known else np.nan
    )


def datasheet_flops_per_second(points: Points) -> NDArray[np.float64]:
    """Return the dense peak for each point's number formats; NaN: GPU not in the catalogue."""
    known = set(gpu_names())
    formats = joined(points.weight_dtype, points.activation_dtype, lambda one, two: f"{one} {two}")
    cards = joined(points.gpu, formats, lambda name, two: f"{name} {two}")

    def peak(text: str) -> float:
        name, weight, activation = text.rsplit(" ", 2)
        if name not in known:
            return np.nan
        card = gpu(name)
        return card.peak_flops_per_second[peak_format(card, weight, activation)]

    return cards.numbers(peak)


def ideal_seconds(points: Points, demand: Demand | None = None) -> NDArray[np.float64]:
    """Return the roofline of the datasheet: the longer of moving all bytes and all FLOPs.

    NaN where the GPU is not in the catalogue; above 0 elsewhere, as a rank without rows still
    reads and writes nothing in no less than the time of one byte. Source: as `roofline`.
    """
    wanted = demand_of(points) if demand is None else demand
    moving = np.maximum(wanted.num_bytes, 1.0) / datasheet_bytes_per_second(points)
    return np.maximum(moving, wanted.flops / datasheet_flops_per_second(points))
