"""What every CUDA expert kernel asks of a workload before anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moeprof.workload.workload import Workload


def refusal_of_sizes(
    workload: Workload, steps: Mapping[str, int], *, max_experts: int
) -> str | None:
    """Return why a workload's dtype or sizes are not for a kernel, or None.

    `steps` are the dtypes that it takes, each with what hidden and expert sizes are multiples of.
    """
    dtype = workload.weight_dtype
    if dtype not in steps:
        return f"the CUDA kernels take {' and '.join(steps)} weights, not {dtype}"
    if workload.num_local_experts > max_experts:
        return f"it takes {max_experts} local experts, got {workload.num_local_experts}"
    sizes = (workload.layer.hidden_size, workload.local_expert_size)
    if any(size % steps[dtype] for size in sizes):
        return (
            f"hidden and local expert sizes must be multiples of {steps[dtype]} in {dtype}, "
            f"got {sizes[0]} and {sizes[1]}"
        )
    return None
