"""Whether a trace and a placement are of the same model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeprof.errors import TraceError

if TYPE_CHECKING:
    from moeprof.trace.reader import Trace
    from moeprof.workload.placement import Placement


def check_experts(trace: Trace, placement: Placement) -> None:
    """Raise TraceError if a placement does not hold exactly the experts of a trace's model."""
    placed = {expert for rank in placement.ranks for expert in rank}
    num_experts = trace.metadata.num_experts
    if placed == set(range(num_experts)):
        return
    model = f" of {trace.metadata.model}" if trace.metadata.model else ""
    raise TraceError(
        f"{trace.path}: the trace{model} has {num_experts} experts, the placement "
        f"{placement.strategy} holds {_words(placed)}",
        hint=f"Place {num_experts} experts, or take a trace of the model that is placed.",
    )


def _words(placed: set[int]) -> str:
    if placed == set(range(len(placed))):
        return str(len(placed))
    return f"{len(placed)} with ids from {min(placed)} to {max(placed)}"
