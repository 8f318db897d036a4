"""The sections and keys of a gates file: what must hold for a change to pass."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from moeprof.recipe.schema import Strict

METRICS: Final = (
    "step_latency_seconds.mean",
    "step_latency_seconds.p50",
    "step_latency_seconds.p95",
    "step_latency_seconds.p99",
    "step_latency_seconds.low",
    "step_latency_seconds.high",
    "joules_per_token.mean",
    "joules_per_token.low",
    "joules_per_token.high",
    "delta_cross_entropy_nats.mean",
    "delta_cross_entropy_nats.low",
    "delta_cross_entropy_nats.high",
    "active_experts",
    "peak_celsius",
    "throttled_seconds",
    "gate_mass_retained",
    "selections_changed_fraction",
    "router_seconds",
)
"""The dotted names that figures have in route-eval's JSON."""
EVERY_SCENE: Final = "*"
STORED: Final = "stored"
MARGINS: Final = ("at_most", "at_least", "at_most_ratio", "at_most_difference")

MarginKey = Literal["at_most", "at_least", "at_most_ratio", "at_most_difference"]
Text = Annotated[str, Field(min_length=1)]
Ratio = Annotated[float, Field(gt=0)]
Number = float


class GateSection(Strict):
    """One gate: a metric of a policy, what it is held against, and exactly one margin."""

    name: Text
    # "*": every scene that has the policy.
    scene: Text = EVERY_SCENE
    policy: Text
    metric: str
    # A policy of the same scene, or `stored`: the same policy in an earlier result.
    against: Text | None = None
    at_most: Number | None = None
    at_least: Number | None = None
    at_most_ratio: Ratio | None = None
    at_most_difference: Number | None = None

    @property
    def margin(self) -> tuple[MarginKey, float]:
        """Return the key of the gate's margin, and the margin, in the metric's unit or a ratio."""
        margins: tuple[tuple[MarginKey, float | None], ...] = (
            ("at_most", self.at_most),
            ("at_least", self.at_least),
            ("at_most_ratio", self.at_most_ratio),
            ("at_most_difference", self.at_most_difference),
        )
        return next((key, value) for key, value in margins if value is not None)

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        where = f"gate {self.name!r}"
        if self.metric not in METRICS:
            near = get_close_matches(self.metric, METRICS, n=1, cutoff=0.3)
            ending = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(METRICS)}"
            raise ValueError(f"{where}: there is no metric {self.metric!r}; {ending}")
        given = [key for key in MARGINS if getattr(self, key) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"{where}: must have one of {', '.join(MARGINS)}, got {found}")
        compares = given[0] in {"at_most_ratio", "at_most_difference"}
        if compares and self.against is None:
            raise ValueError(f"{where}: {given[0]} needs against, a policy's name or 'stored'")
        if not compares and self.against is not None:
            raise ValueError(
                f"{where}: {given[0]} is of the metric itself; give at_most_ratio or "
                "at_most_difference beside against"
            )
        if self.against == self.policy:
            raise ValueError(f"{where}: against must be another policy than {self.policy!r}")
        for ending, right in ((".high", "at_most"), (".low", "at_least")):
            if self.metric.endswith(ending) and given[0] != right:
                raise ValueError(
                    f"{where}: {self.metric} goes with {right} only; "
                    f"{self.metric.removesuffix(ending)}.mean goes with all margins, and is "
                    "judged by its bounds"
                )
        return self


class GatesFile(Strict):
    """All gates of a file."""

    kind: Literal["gates"] = "gates"
    # Path of an earlier route-eval JSON, from the file's own folder.
    stored: Text | None = None
    gates: Annotated[tuple[GateSection, ...], Field(strict=False, min_length=1)]

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        names = [gate.name for gate in self.gates]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise ValueError(f"gates must differ in name, got {repeated!r} twice")
        return self
