"""The GPUs of a scene as they are before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.prepared import PreparedCosts
from moeprof.evaluation.cluster.emulated import what_is_emulated
from moeprof.evaluation.cluster.heat import HeatStep
from moeprof.evaluation.cluster.kernel import kernel_points
from moeprof.evaluation.cluster.links import Links
from moeprof.evaluation.cluster.reference import ReferenceCosts
from moeprof.evaluation.cluster.state import ClusterState
from moeprof.evaluation.cluster.steady import steady_state, uniform_load
from moeprof.evaluation.cluster.warmth import Warmth
from moeprof.hardware.catalogue import gpu as gpu_named
from moeprof.hardware.physics import Physics, physics_of
from moeprof.workload import catalogue
from moeprof.workload.dtypes import BYTES_PER_ELEMENT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.model import CostModel
    from moeprof.evaluation.runs import Hardware
    from moeprof.recipe.scene import Scene
    from moeprof.workload.layer import MoELayer
    from moeprof.workload.model import MoEModel

_LEAST_FRACTION: Final = 0.01  # of the power limit, as `CostModel` keeps it
_NEVER: Final = 2**62
_ACTIVATIONS: Final = "bf16"  # where no fitted kernel says otherwise
_KV_CACHE: Final = "bf16"  # whatever format dispatch sends


@dataclass(frozen=True, slots=True, eq=False)
class Cluster:
    """Frozen parts of a scene's GPUs; arrays are [num_ranks] and, but for seeds, all there is.

    `speed` is against the specification and `leakage` against the catalogue; from
    `changed_at_step` on, settling steps counted, speeds are `changed_speed`. `attention_bytes` is
    of one layer's KV caches. `emulated` has one sentence for all that is not measured.
    """

    num_seeds: int
    physics: Physics
    reference: ReferenceCosts
    warmth: Warmth
    heat: HeatStep
    links: Links
    ambient_celsius: NDArray[np.float64]
    speed: NDArray[np.float64]
    changed_speed: NDArray[np.float64]
    changed_at_step: int
    leakage: NDArray[np.float64]
    limit_watts: NDArray[np.float64]
    least_watts: float
    attention_bytes: NDArray[np.float64]
    is_held: bool
    has_start: bool
    start_celsius: NDArray[np.float64]
    start_sink_celsius: NDArray[np.float64]
    replica_slots: int | None
    emulated: tuple[str, ...]

    @classmethod
    def prepare(
        cls, scene: Scene, layer: MoELayer, cost: CostModel | None, *, num_seeds: int
    ) -> Cluster:
        """Return the GPUs of a scene that compute `layer`, as a fitted model prices it.

        `cost` None: as the datasheet does. Where the scene gives no temperatures they are those of
        the steady state under a load that likes all experts alike (see `at_steady_state`).

        Raises:
            HardwareError: there is no such GPU, or ranks need a link whose rate nobody knows.
            RecipeError: the cost model does not know the scene's GPU, kernel or number format.
            WorkloadError: the scene's model is not in the catalogue.

        """
        gpus = scene.gpus
        card, model = gpu_named(gpus.specification), catalogue.model(scene.model.layer)
        physics = physics_of(card)
        dtypes = (scene.model.weight_dtype or model.weight_dtype, _ACTIVATIONS)
        prepared = None
        if cost is not None:
            points = kernel_points(scene, layer, cost)
            dtypes = (points.weight_dtype.texts()[0], points.activation_dtype.texts()[0])
            prepared = PreparedCosts.prepare(cost, points)
        reference = ReferenceCosts.of(layer, card, physics, prepared, dtypes)
        warmth = Warmth(
            physics,
            None if prepared is None else prepared.thermal,
            0.0 if prepared is None else prepared.kernel_slope_per_celsius,
        )
        heat = HeatStep.of(physics, gpus.seconds_per_simulated_step)
        ambient, speed = (
            _each(gpus.ambient_celsius, gpus.num_gpus),
            _each(gpus.speed, gpus.num_gpus),
        )
        changed = speed.copy()
        if gpus.changing_rank is not None:
            changed[gpus.changing_rank] = gpus.changed_speed
        start = ambient if gpus.start_celsius is None else _each(gpus.start_celsius, gpus.num_gpus)
        limit = gpus.power_limit_watts
        if limit is None:
            limit = physics.power_limit_watts
        found = cls(
            num_seeds=num_seeds,
            physics=physics,
            reference=reference,
            warmth=warmth,
            heat=heat,
            links=Links.of(scene, card, layer.hidden_size),
            ambient_celsius=ambient,
            speed=speed,
            changed_speed=changed,
            changed_at_step=_NEVER
            if gpus.changing_rank is None
            else gpus.changed_at_step + scene.traffic.num_settling_steps,
            leakage=_each(gpus.leakage, gpus.num_gpus),
            limit_watts=_each(limit, gpus.num_gpus),
            least_watts=_LEAST_FRACTION * physics.power_limit_watts,
            attention_bytes=_attention_bytes(scene, model),
            is_held=gpus.is_held,
            has_start=gpus.start_celsius is not None,
            start_celsius=start,
            start_sink_celsius=ambient + (start - ambient) * heat.sink_fraction,
            replica_slots=_replica_slots(gpus.free_bytes, layer, model, dtypes[0]),
            emulated=what_is_emulated(scene, reference, warmth),
        )
        load = uniform_load(layer, scene.traffic.batch_size, gpus.num_gpus)
        return found.at_steady_state(*load)

    @property
    def hardware(self) -> Hardware:
        """Whether everything rests on measurements, or something is emulated."""
        return "emulated" if self.emulated else "measured"

    def at_steady_state(self, rows: NDArray[np.int64], sent: NDArray[np.int64]) -> Cluster:
        """Return the same GPUs, warmed by a load for ever; the same, where the scene says how warm.

        `rows` and `sent` are layers of the load, as `steady.steady_state` takes them.
        """
        if self.has_start:
            return self
        die, sink = steady_state(self, rows, sent)
        return replace(self, start_celsius=die, start_sink_celsius=sink)

    def start(self) -> ClusterState:
        """Return the state that every run begins with."""
        shape = (self.num_seeds, len(self.speed))
        return ClusterState(
            self,
            np.broadcast_to(self.start_celsius, shape),
            np.broadcast_to(self.start_sink_celsius, shape),
        )

    def transfer_seconds(self, sent: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the seconds of one all-to-all, [num_seeds] (see `Links.transfer_seconds`).

        `sent` is [num_seeds, num_ranks, num_ranks]: dispatch; combine is its transpose.
        """
        return self.links.transfer_seconds(sent)

    def free_slots(self) -> int | None:
        """Return how many replicas of experts fit on a rank in every layer; None: no limit."""
        return self.replica_slots


def _each(values: float | tuple[float, ...], num_gpus: int) -> NDArray[np.float64]:
    return np.broadcast_to(np.array(values, dtype=np.float64), (num_gpus,)).copy()


def _attention_bytes(scene: Scene, model: MoEModel) -> NDArray[np.float64]:
    """Return the bytes of one layer's KV caches on every rank, tokens living on them in turn."""
    elements = model.kv_elements(scene.traffic.context_tokens) / model.num_layers
    ranks = np.arange(scene.traffic.batch_size) % scene.gpus.num_gpus
    tokens = np.bincount(ranks, minlength=scene.gpus.num_gpus)
    return tokens * np.float64(elements * BYTES_PER_ELEMENT[_KV_CACHE])


def _replica_slots(
    free_bytes: int | None, layer: MoELayer, model: MoEModel, weight_dtype: str
) -> int | None:
    """Return the replicas that fit in every MoE layer of the model, simulated or not."""
    if free_bytes is None:
        return None
    expert_bytes = layer.weights_per_expert * BYTES_PER_ELEMENT[weight_dtype]
    return int(free_bytes // (expert_bytes * model.num_moe_layers))
