"""What a check found of a kernel, case by case."""

from __future__ import annotations

from dataclasses import dataclass


class CheckFailed(Exception):  # noqa: N818 - what became of a point, as the sweep's Interrupted
    """A kernel computes something else than it should; the text says by how much and where."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One routing of one layer in one dtype, computed and compared with float64.

    `relative_error_fraction` is the Frobenius norm of the error over that of the exact output, the
    worst of all launches; None: nothing finite was computed. `fault` says what is wrong, `refusal`
    why nothing was compared; at most one of them is given.
    """

    routing: str
    dtype: str
    hidden_size: int
    expert_size: int
    rows_per_expert: tuple[int, ...]
    bound_fraction: float
    relative_error_fraction: float | None = None
    fault: str | None = None
    refusal: str | None = None
    choice: str | None = None  # the inner kernel or variant that computed it
    wall_seconds: float = 0.0

    @property
    def where(self) -> str:
        """Which case it is, in words."""
        chosen = "" if self.choice is None else f", {self.choice}"
        return f"{self.routing}, {self.dtype}, {self.hidden_size} x {self.expert_size}{chosen}"


@dataclass(frozen=True, slots=True)
class KernelVerdict:
    """All cases of one kernel; `refused` is why none of them was compared, None where some were."""

    kernel: str
    cases: tuple[CaseResult, ...]
    refused: str | None = None

    @property
    def fault(self) -> str | None:
        """What is wrong in the first case that is wrong, with the case; None: nothing is."""
        return next((f"{case.fault} ({case.where})" for case in self.cases if case.fault), None)

    @property
    def passed(self) -> bool:
        """Whether something was compared, and all of it was right."""
        return self.refused is None and self.fault is None

    @property
    def compared(self) -> tuple[CaseResult, ...]:
        """The cases that ran, to the end or to their fault."""
        return tuple(case for case in self.cases if case.refusal is None)

    @property
    def worst(self) -> CaseResult | None:
        """The case that came nearest to its bound, or went farthest beyond it."""
        known = [case for case in self.cases if case.relative_error_fraction is not None]
        return (
            max(known, key=lambda case: (case.relative_error_fraction or 0.0) / case.bound_fraction)
            if known
            else None
        )


def verdict_of(kernel: str, cases: tuple[CaseResult, ...]) -> KernelVerdict:
    """Return the verdict that the cases come to."""
    ran = any(case.refusal is None for case in cases)
    refused = None if ran else next((case.refusal for case in cases), "nothing to compare")
    return KernelVerdict(kernel, cases, refused)
