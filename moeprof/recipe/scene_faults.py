"""What makes a scene impossible once its model and GPU are known."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from moeprof.errors import WorkloadError
from moeprof.workload.dtypes import BYTES_PER_ELEMENT
from moeprof.workload.placement import place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moeprof.hardware.gpu import GPU
    from moeprof.recipe.scene import GpuSection, PolicySection, Scene
    from moeprof.workload.model import MoEModel

# The policy that every scene has, whether it is named or not.
_PLAIN = "top-k"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a scene, by key, and what to do about it."""

    message: str
    hint: str | None = None


def scene_fault(scene: Scene, model: MoEModel, gpu: GPU) -> Fault | None:
    """Return the first fault of a scene whose layer is `model`'s and whose GPUs are `gpu`s."""
    faults = (_of_model(scene, model), _of_gpus(scene, gpu), _of_policies(scene, model))
    return next((fault for found in faults for fault in found), None)


def _of_model(scene: Scene, model: MoEModel) -> Iterator[Fault]:
    dtype = scene.model.weight_dtype
    if dtype is not None and dtype not in BYTES_PER_ELEMENT:
        known = ", ".join(BYTES_PER_ELEMENT)
        yield Fault(f"model.weight_dtype must be one of {known}, got {dtype!r}")
    traffic, most = scene.traffic, model.num_moe_layers
    if traffic.kind == "generated" and (traffic.num_layers or 1) > most:
        yield Fault(
            f"traffic.num_layers must lie in 1..{most}, the MoE layers of {model.name}, "
            f"got {traffic.num_layers}"
        )


def _of_gpus(scene: Scene, gpu: GPU) -> Iterator[Fault]:
    gpus, links = scene.gpus, scene.links
    if gpus.free_bytes is not None and gpus.free_bytes > gpu.memory_bytes:
        yield Fault(
            f"gpus.free_bytes must be at most {gpu.memory_bytes}, the memory of {gpu.name}, "
            f"got {gpus.free_bytes}"
        )
    limits = gpus.power_limit_watts
    asked = max(limits) if isinstance(limits, tuple) else limits
    if asked is not None and gpu.power_limit_watts is not None and asked > gpu.power_limit_watts:
        yield Fault(
            f"gpus.power_limit_watts must be at most {gpu.power_limit_watts:g}, the limit of "
            f"{gpu.name}, got {asked:g}"
        )
    yield from _of_change(gpus, scene.traffic.num_steps)
    is_joined = {
        "scale_up": (gpu.scale_up, links.scale_up_bytes_per_second, gpus.num_gpus > gpus.num_nodes),
        "scale_out": (gpu.scale_out, links.scale_out_bytes_per_second, gpus.num_nodes > 1),
    }
    for name, (link, written, is_used) in is_joined.items():
        if is_used and link is None and written is None:
            yield Fault(
                f"links.{name}_bytes_per_second is missing; {gpu.name} has no {name} link",
                hint="Give the rate of one GPU in one direction.",
            )


def _of_change(gpus: GpuSection, num_steps: int) -> Iterator[Fault]:
    changing = {"changing_rank", "changed_speed", "changed_at_step"}
    missing = sorted(changing - gpus.model_fields_set)
    if missing and len(missing) < len(changing):
        yield Fault(
            f"gpus.{missing[0]} is missing; changing_rank, changed_speed and changed_at_step "
            "come together"
        )
    if gpus.changing_rank is not None and gpus.changed_at_step >= num_steps:
        yield Fault(
            f"gpus.changed_at_step must lie in 0..{num_steps - 1}, settling steps not counted, "
            f"got {gpus.changed_at_step}"
        )


def _of_policies(scene: Scene, model: MoEModel) -> Iterator[Fault]:
    placement = scene.placement
    yield from _misplaced(scene, model, "", placement.strategy, placement.num_replicas)
    for index, policy in enumerate(scene.policies or ()):
        where = f"policies[{index}] ({policy.name}): "
        yield from _misplaced(scene, model, where, *_placed(policy, scene))
    if scene.policies is None:
        return
    names = (_PLAIN, *(policy.name for policy in scene.policies))
    if scene.baseline not in names:
        near = get_close_matches(scene.baseline, names, n=1)
        yield Fault(
            f"baseline must be one of {', '.join(dict.fromkeys(names))}, got {scene.baseline!r}",
            hint=f"Did you mean {near[0]}?" if near else None,
        )


def _placed(policy: PolicySection, scene: Scene) -> tuple[str, int]:
    """Return the strategy and the replicas of a policy; what it leaves open is the scene's."""
    strategy = scene.placement.strategy if policy.placement == "scene" else policy.placement
    replicas = policy.num_replicas
    if replicas is None:
        # GEM places one replica of each expert.
        replicas = 0 if strategy == "gem" else scene.placement.num_replicas
    return strategy, replicas


def _misplaced(
    scene: Scene, model: MoEModel, where: str, strategy: str, num_replicas: int
) -> Iterator[Fault]:
    num_experts, gpus = model.layer.num_experts, scene.gpus
    where = f"{where}placement {strategy}: "
    if strategy == "gem" and num_replicas:
        yield Fault(f"{where}num_replicas must be 0, got {num_replicas}")
        return
    try:
        place(
            # Ranks and slots are all that GEM may fail by here, as contiguous does.
            "contiguous" if strategy == "gem" else strategy,
            num_experts=num_experts,
            num_ranks=gpus.num_gpus,
            seed=scene.seed,
            loads=[1.0] * num_experts,
            num_replicas=num_replicas,
            num_nodes=gpus.num_nodes,
        )
    except WorkloadError as error:
        yield Fault(where + error.message.removeprefix(f"placement {strategy}: "), hint=error.hint)
