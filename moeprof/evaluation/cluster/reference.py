"""What rows cost a GPU at the reference of temperature and clock: fitted, or a datasheet's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moeprof.cost.prepared import occupancy_of_ranks
from moeprof.cost.thermal import intensity_octaves
from moeprof.evaluation.cluster.clock import Demand
from moeprof.hardware import assumed
from moeprof.hardware.peaks import peak_format
from moeprof.workload.dtypes import BYTES_PER_ELEMENT
from moeprof.workload.workload import FLOPS_PER_WEIGHT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.prepared import PreparedCosts
    from moeprof.hardware.gpu import GPU
    from moeprof.hardware.physics import Physics
    from moeprof.workload.layer import MoELayer


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceCost:
    """Costs of rows on every rank, [num_seeds, num_ranks] each.

    `octaves` are log2 of rows per active expert. A rank without rows takes 0 s and waits.
    """

    seconds: NDArray[np.float64]
    watts: NDArray[np.float64]
    demand: Demand
    octaves: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceCosts:
    """A layer on one kind of GPU, at `Physics.reference_celsius` and the highest clock.

    Seconds and watts are those of `prepared`, where it has them; else seconds are launches and
    the roofline of the datasheet, and watts the physics' idle, leakage, clocking and joules. Fitted
    watts are split into the same parts, so that temperature and clock can act on each.
    """

    physics: Physics
    prepared: PreparedCosts | None
    expert_bytes: float
    row_bytes: float
    flops_per_row: int
    flops_per_second: float
    joules_per_flop: float

    @classmethod
    def of(
        cls,
        layer: MoELayer,
        gpu: GPU,
        physics: Physics,
        prepared: PreparedCosts | None,
        dtypes: tuple[str, str],
    ) -> ReferenceCosts:
        """Return the costs of a layer whose number formats are (weights, activations)."""
        weights, activations = dtypes
        kind = peak_format(gpu, weights, activations)
        row_elements = 2 * (layer.hidden_size + layer.expert_size)
        return cls(
            physics=physics,
            prepared=prepared,
            expert_bytes=layer.weights_per_expert * BYTES_PER_ELEMENT[weights],
            row_bytes=row_elements * BYTES_PER_ELEMENT[activations],
            flops_per_row=FLOPS_PER_WEIGHT * layer.weights_per_expert,
            flops_per_second=physics.flops_per_second[kind],
            joules_per_flop=physics.joules_per_flop[kind],
        )

    @property
    def has_watts(self) -> bool:
        """Whether watts are fitted."""
        return self.prepared is not None and self.prepared.watts is not None

    def at(self, rows: NDArray[np.int64]) -> ReferenceCost:
        """Return what rows, [num_seeds, num_ranks, num_experts], cost.

        Source of the roofline: Williams, Waterman and Patterson, CACM 52 (4), 2009. How much of
        the seconds follows the clock is how much a root of squares of the roofline's two times
        follows the second one, and `clocked_memory_fraction` of the first.
        """
        physics, shape = self.physics, rows.shape[:-1]
        occupancy = occupancy_of_ranks(rows)
        active, num_rows = occupancy.num_active, occupancy.num_rows
        num_bytes = active * self.expert_bytes + num_rows * self.row_bytes
        flops = num_rows * self.flops_per_row
        moving, computing = num_bytes / physics.bytes_per_second, flops / self.flops_per_second
        squares = moving * moving + computing * computing
        share = computing * computing / np.where(squares > 0, squares, 1.0)
        memory, compute = num_bytes * physics.joules_per_byte, flops * self.joules_per_flop
        works = num_rows > 0
        fitted: NDArray[np.float64] | None = None
        if self.prepared is None:
            launching = assumed.FIXED_LAUNCHES * assumed.LAUNCH_SECONDS
            seconds = np.where(works, launching + np.maximum(moving, computing), 0.0)
        else:
            seconds, fitted = self.prepared.at_occupancy(occupancy)
        steady = np.full(seconds.shape, physics.idle_watts + physics.leakage_watts)
        clocked = np.full(seconds.shape, physics.busy_watts)
        if fitted is not None:
            above = np.maximum(fitted - steady, 0.0)
            least = np.where(works, fitted - above, steady)
            busy = np.where(works, np.minimum(clocked, above), clocked)
            scale = (above - busy) * seconds / np.where(works, memory + compute, 1.0)
            scale = np.where(works, scale, 0.0)
            steady, clocked, memory, compute = least, busy, scale * memory, scale * compute
        drawn = (memory + compute) / np.where(works, seconds, 1.0)
        memory_bound = physics.clocked_memory_fraction
        demand = Demand(
            seconds=seconds.reshape(shape),
            clocked_fraction=(memory_bound + (1 - memory_bound) * share).reshape(shape),
            steady_watts=steady.reshape(shape),
            clocked_watts=clocked.reshape(shape),
            memory_joules=memory.reshape(shape),
            compute_joules=compute.reshape(shape),
        )
        octaves = np.zeros(shape)
        if self.prepared is not None and self.prepared.thermal is not None:
            octaves = intensity_octaves(num_rows, active).reshape(shape)
        return ReferenceCost(
            demand.seconds, (steady + clocked + drawn).reshape(shape), demand, octaves
        )
