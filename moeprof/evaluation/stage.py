"""A scene made ready: its traffic, GPUs, placements and what every policy is compared with."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from moeprof.cost.model_file import load_model
from moeprof.errors import RecipeError, WorkloadError
from moeprof.evaluation.channel.price import telemetry_seconds
from moeprof.evaluation.cluster.cluster import Cluster
from moeprof.evaluation.sere_similarity import similarities_behind
from moeprof.evaluation.traffic.open import open_traffic
from moeprof.resources import data_folder
from moeprof.router.marginal.curve import StepCurve
from moeprof.workload.gem import gem_placement
from moeprof.workload.placement import Placement, place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from moeprof.cost.model import CostModel
    from moeprof.evaluation.traffic.protocol import Traffic
    from moeprof.gate.rule import Routing
    from moeprof.recipe.load_scene import LoadedScene
    from moeprof.recipe.scene import PolicySection, Scene

_ENGINE: Final = re.compile("-(?:vllm|sglang|trtllm)-")
_MOST_PROFILED: Final = 64  # steps that GEM weighs: more hardly change its answer


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One scene, ready for policies; whatever does not change between them is here.

    `profile` is [num_profiled, num_layers, num_experts], rows before the first step. `telemetry`
    is what it adds to one layer, in seconds. `plain` keeps top-k's experts and weights by (step,
    layer) once they were seen, `plain_losses` its cross-entropy.
    """

    loaded: LoadedScene
    traffic: Traffic
    cluster: Cluster
    curve: StepCurve
    profile: NDArray[np.int64]
    telemetry_seconds: float
    plain: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)
    plain_losses: list[NDArray[np.float64]] = field(default_factory=list)
    _placements: dict[tuple[str, int], tuple[Placement, ...]] = field(default_factory=dict)
    _similarities: dict[int, Tensor] = field(default_factory=dict)

    @property
    def scene(self) -> Scene:
        """What the user wrote."""
        return self.loaded.scene

    def keep_plain(self, step: int, layer: int, routing: Routing) -> None:
        """Keep top-k's choice, whose tensors may be written over."""
        self.plain[step, layer] = (routing.experts.clone(), routing.weights.clone())

    def placements(self, policy: PolicySection) -> tuple[Placement, ...]:
        """Return where a policy's experts sit, by layer.

        Raises WorkloadError: a strategy that is impossible for this model and these GPUs.
        """
        section = self.scene.placement
        strategy = section.strategy if policy.placement == "scene" else policy.placement
        num_replicas = policy.num_replicas
        if num_replicas is None:
            num_replicas = 0 if strategy == "gem" else section.num_replicas
        free = self.cluster.free_slots()
        if free is not None:
            num_replicas = min(num_replicas, free * self.scene.gpus.num_gpus)
        key = (strategy, num_replicas)
        if key not in self._placements:
            self._placements[key] = tuple(
                self._placed(strategy, num_replicas, layer)
                for layer in range(self.traffic.num_layers)
            )
        return self._placements[key]

    def similarities(self) -> Mapping[int, Tensor]:
        """Return how similar experts are by layer; made at the first call (`similarities_behind`).

        Raises what that raises.
        """
        if not self._similarities:
            self._similarities.update(similarities_behind(self.scene, self.traffic))
        return self._similarities

    def _placed(self, strategy: str, num_replicas: int, layer: int) -> Placement:
        rows = self.profile[:, layer]
        if strategy == "gem":
            # As GEM has it: an expert in use costs its weights, then a little for each row.
            loads = (rows > 0) + self.curve.row_experts * rows
            return gem_placement(loads[:_MOST_PROFILED], profiled_speed(self.cluster, self.traffic))
        return place(
            strategy,
            num_experts=self.traffic.num_experts,
            num_ranks=self.scene.gpus.num_gpus,
            seed=self.scene.seed + layer,
            loads=rows.sum(axis=0).astype(np.float64),
            num_replicas=num_replicas,
        )


def set_stage(loaded: LoadedScene, cost: CostModel | None) -> Stage:
    """Return a scene ready for policies; `cost` None: a datasheet's roofline prices it.

    Raises whatever `open_traffic` and `Cluster.prepare` raise, a RecipeError with the scene's path;
    all of it is a MoeprofError.
    """
    scene, model = loaded.scene, loaded.model
    try:
        traffic = open_traffic(scene, model.layer, num_moe_layers=model.num_moe_layers)
        cluster = Cluster.prepare(scene, model.layer, cost, num_seeds=scene.num_seeds)
    except RecipeError as error:
        # Which of several scenes it was, nobody below knows.
        raise RecipeError(f"{loaded.path}: {error.message}", hint=error.hint) from error
    gpus = scene.gpus
    return Stage(
        loaded=loaded,
        traffic=traffic,
        cluster=cluster,
        curve=fitted_curve(cluster, traffic),
        profile=traffic.profile(),
        telemetry_seconds=telemetry_seconds(
            scene.telemetry,
            scene.links,
            loaded.gpu,
            num_gpus=gpus.num_gpus,
            num_nodes=gpus.num_nodes,
        ),
    )


def shipped_cost(specification: str) -> CostModel | None:
    """Return the fitted model of a GPU that ships with moeprof; None: there is none.

    Its file is called after the GPU, perhaps without its memory, and the engine.
    """
    for path in sorted((data_folder() / "models-fitted").glob("*.json")):
        name = _ENGINE.split(path.stem)[0]
        if specification == name or specification.startswith(f"{name}-"):
            return load_model(path)
    return None


def profiled_speed(cluster: Cluster, traffic: Traffic) -> NDArray[np.float64]:
    """Return how fast each GPU is at the start, [num_ranks], against what the cost model expects.

    All have the same usual load. Heat and power limits count as they do for who measures, which is
    how GEM comes to know its GPUs.
    """
    num_ranks = len(cluster.speed)
    share, each = _usual_load(traffic, num_ranks)
    rows = np.zeros((traffic.num_seeds, num_ranks, traffic.num_experts), dtype=np.int64)
    rows[:, :, :share] = each
    cost = cluster.start().run_layer(rows)
    # Rounding must not make equal GPUs unequal.
    found: NDArray[np.float64] = np.round(cost.expected_seconds[0] / cost.seconds[0], 6)
    return found


def _usual_load(traffic: Traffic, num_ranks: int) -> tuple[int, int]:
    """Return a rank's share of the experts, and the rows that an active one usually has."""
    total = traffic.batch_size * traffic.top_k
    share = -(-traffic.num_experts // num_ranks)
    return share, max(1, round(total / min(traffic.num_experts, total)))


def fitted_curve(cluster: Cluster, traffic: Traffic) -> StepCurve:
    """Return how the cost model's seconds grow with active experts and rows at usual loads.

    One rank is asked with 1 up to its share of experts, at the rows that each usually has, and the
    line of least squares is taken; then with twice the rows on each.
    """
    num_experts, num_ranks = traffic.num_experts, len(cluster.speed)
    share, each = _usual_load(traffic, num_ranks)
    most = max(2, share)
    counts = np.arange(1, most + 1)
    rows = np.zeros((2 * most, num_ranks, num_experts), dtype=np.int64)
    for place_, count in enumerate(counts):
        rows[place_, 0, : min(count, num_experts)] = each
        rows[most + place_, 0, : min(count, num_experts)] = 2 * each
    found = cluster.reference.at(rows)
    seconds, watts = found.seconds[:, 0], found.watts[:, 0]
    slope, start = np.polyfit(counts, seconds[:most], 1)
    if slope <= 0:
        raise WorkloadError(
            f"model {traffic.num_experts} experts: one more active expert must take time, and the "
            "cost model says it takes none",
            hint="Fit the model to rows with different numbers of active experts.",
        )
    per_row = (seconds[most:] - seconds[:most]).mean() / (each * counts.mean())
    waiting = float(cluster.start().waiting_watts.mean())
    joules, _ = np.polyfit(counts, (watts[:most] - waiting) * seconds[:most], 1)
    usual = float(seconds[most - 1])
    static = waiting * usual * num_ranks / joules if joules > 0 else 0.0
    # A row is part of the expert that it makes active: the line above has `each` of them.
    return StepCurve(
        launch_experts=max(0.0, float(start / slope)),
        row_experts=max(0.0, float(per_row / slope)),
        static_experts=float(static),
    )


def plain_routing(traffic: Traffic, layer: int, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return top-k's experts and weights for [num_seeds, batch_size, num_experts] at once."""
    flat = logits.reshape(-1, logits.shape[-1])
    routing = traffic.rules[layer].choose(flat)
    shape = (*logits.shape[:2], routing.experts.shape[-1])
    return routing.experts.view(shape), routing.weights.to(torch.float32).view(shape)
