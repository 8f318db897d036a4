"""How a rank's seconds and joules grow with its active experts, in units of one expert's."""

from __future__ import annotations

from dataclasses import dataclass

from moeprof.errors import WorkloadError


@dataclass(frozen=True, slots=True)
class StepCurve:
    """Seconds of a rank with n active experts and r rows are c (launch + n + row * r).

    The law is OEA's (arXiv:2511.02237: linear in active experts and rows, R² above 0.99 on one
    kernel), and what `fitted_curve` takes from a cost model. Only ratios to c, the seconds that one
    more active expert adds, matter to a choice, so c is not here.
    """

    launch_experts: float = 0.0
    """What a rank with any row spends beside its experts, in active experts."""
    row_experts: float = 0.0
    """What one row adds, in active experts."""
    static_experts: float = 0.0
    """Joules that all ranks burn in a plain step whatever they do, in joules of one active
    expert. They go with the step's makespan."""

    def __post_init__(self) -> None:
        """Raise WorkloadError: a ratio below 0, or not a number."""
        for name in ("launch_experts", "row_experts", "static_experts"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise WorkloadError(f"step curve: {name} must be at least 0, got {value}")


EXPERTS_ONLY = StepCurve()
"""The curve without a cost model: active experts are all that counts."""
