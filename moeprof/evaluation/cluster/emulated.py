"""What of a scene's hardware is not measured, in one sentence each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moeprof.evaluation.cluster.reference import ReferenceCosts
    from moeprof.evaluation.cluster.warmth import Warmth
    from moeprof.recipe.scene import Scene


def what_is_emulated(scene: Scene, reference: ReferenceCosts, warmth: Warmth) -> tuple[str, ...]:
    """Return the sentences that a report of this scene owes its reader."""
    gpus, physics = scene.gpus, reference.physics
    device = scene.model.device or gpus.specification
    said = {
        f"Seconds of experts are those of {device}, everything else is {gpus.specification}'s.": (
            reference.prepared is not None and device != gpus.specification
        ),
        "Seconds of experts are launches and the roofline of the GPU's datasheet.": (
            reference.prepared is None
        ),
        "Watts are the GPU catalogue's idle, leakage, clocking and joules per byte and FLOP.": (
            not reference.has_watts
        ),
        "Leakage over temperature follows the GPU catalogue's exponential.": (
            not warmth.has_leakage
        ),
        "Temperature changes seconds through the clock alone.": warmth.measured is None,
        "Clocks above the slowdown temperature and under the power limit, and what they cost, "
        "follow the GPU catalogue.": True,
        f"Assumed of {physics.name}: {', '.join(physics.assumed)}.": bool(physics.assumed),
        "Dies and heatsinks are two thermal resistances with time constants.": not gpus.is_held,
        "Speeds of GPUs are the scene's own.": (
            _differs(gpus.speed) or gpus.changing_rank is not None
        ),
        "The spread of leakage between GPUs is the scene's own.": _differs(gpus.leakage),
        "An all-to-all takes alpha + bytes / beta of the busiest port.": gpus.num_gpus > 1,
        "Attention is the reading of its KV cache at the achievable bandwidth.": (
            scene.traffic.context_tokens > 0
        ),
    }
    return tuple(sentence for sentence, is_true in said.items() if is_true)


def _differs(values: float | tuple[float, ...]) -> bool:
    return any(each != 1.0 for each in (values if isinstance(values, tuple) else (values,)))
