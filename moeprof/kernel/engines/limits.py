"""What an engine's kernels can be given, told before anything is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moeprof.device.protocol import DeviceIdentity
    from moeprof.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class Limits:
    """The formats, compute capabilities and divisors that a kernel is made for.

    `majors` maps a format to the major compute capabilities that run it; an empty tuple is any.
    `divisors` maps a format to what hidden and local expert sizes must be multiples of.
    """

    majors: dict[str, tuple[int, ...]]
    divisors: dict[str, int]


def refusal_of_limits(limits: Limits, workload: Workload, identity: DeviceIdentity) -> str | None:
    """Return why a workload is outside of the limits, or None."""
    if workload.num_rows == 0:
        return "no rows fall on this rank"
    if identity.kind != "cuda":
        return f"it runs on cuda, not on {identity.kind}"
    return _refusal_of_formats(limits, workload) or _refusal_of_hardware(
        limits.majors[workload.weight_dtype], workload.weight_dtype, identity
    )


def _refusal_of_formats(limits: Limits, workload: Workload) -> str | None:
    weights, activations = workload.weight_dtype, workload.activation_dtype
    if weights not in limits.majors:
        return f"it takes {', '.join(limits.majors)} weights here, not {weights}"
    # Tokens arrive in bf16 whatever the product's format; "fp8" is what they are multiplied in.
    if activations != weights and not (weights == "fp8_block" and activations in {"bf16", "fp8"}):
        return f"it takes no {activations} activations with {weights} weights"
    divisor = limits.divisors.get(weights, 1)
    sizes = (workload.layer.hidden_size, workload.local_expert_size)
    if any(size % divisor for size in sizes):
        return (
            f"with {weights} weights hidden and local expert sizes must be multiples of {divisor}, "
            f"got {sizes[0]} and {sizes[1]}"
        )
    return None


def _refusal_of_hardware(
    majors: tuple[int, ...], weights: str, identity: DeviceIdentity
) -> str | None:
    capability = identity.versions.get("capability", "unknown")
    if not majors or capability.partition(".")[0] in {str(major) for major in majors}:
        return None
    wanted = " or ".join(f"{major}.x" for major in majors)
    return f"with {weights} weights it needs compute capability {wanted}, this is {capability}"
