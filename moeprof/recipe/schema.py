"""The sections and keys of a recipe, their defaults and their ranges."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from moeprof.errors import WorkloadError
from moeprof.recipe.batch_sizes import expand
from moeprof.workload.layer import MoELayer
from moeprof.workload.routing import parse

Dtype = Literal["bf16", "fp16", "fp8", "fp32", "fp8_block"]
Strategy = Literal["round-robin", "contiguous", "random", "one-expert-per-gpu", "eplb"]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
_Any = TypeVar("_Any")
BatchSizes = Annotated[tuple[int, ...], BeforeValidator(expand)]


class Strict(BaseModel):
    """A section in which an unknown key is an error and no value is silently converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _without_repeats(values: tuple[_Any, ...]) -> tuple[_Any, ...]:
    repeated = next((value for value in values if values.count(value) > 1), None)
    if repeated is not None:
        raise ValueError(f"must not name one choice twice, got {str(repeated)!r} again")
    return values


class LayerSection(Strict):
    """One MoE layer given by its sizes instead of a model's name."""

    name: Annotated[str, Field(min_length=1)]
    hidden_size: Annotated[int, Field(ge=1, le=2**20)]
    expert_size: Annotated[int, Field(ge=1, le=2**20)]
    num_experts: Annotated[int, Field(ge=1, le=4096)]
    top_k: Count

    @model_validator(mode="after")
    def _possible(self) -> LayerSection:
        try:
            self.layer()
        except WorkloadError as error:
            raise ValueError(error.message) from error
        return self

    def layer(self) -> MoELayer:
        """Return the layer; raises WorkloadError where its sizes are impossible."""
        return MoELayer(**self.model_dump())


class PlacementSection(Strict):
    """Where experts sit: on `num_ranks` ranks, each of `tp_size` GPUs with a slice of an expert."""

    strategy: Strategy = "contiguous"
    num_ranks: Count = 1
    tp_size: Count = 1
    num_replicas: Annotated[int, Field(ge=0)] = 0
    num_nodes: Count = 1
    num_groups: Count = 1

    @model_validator(mode="after")
    def _meant(self) -> PlacementSection:
        if self.strategy != "eplb" and (self.num_nodes, self.num_groups) != (1, 1):
            raise ValueError(
                "num_nodes and num_groups mean something to the strategy eplb only, "
                f"got them with {self.strategy}"
            )
        return self

    def __str__(self) -> str:
        """Return the text that stands in the dataset's `placement` column."""
        extras = [
            f"{key}={value}"
            for key, value in (
                ("replicas", self.num_replicas),
                ("nodes", self.num_nodes if self.num_nodes > 1 else 0),
                ("groups", self.num_groups if self.num_groups > 1 else 0),
            )
            if value
        ]
        return ":".join([self.strategy, str(self.num_ranks), *extras])


class WorkloadSection(Strict):
    """What runs: every combination of these is a point."""

    models: Annotated[tuple[str, ...], Field(strict=False)] = ()
    layers: Annotated[tuple[LayerSection, ...], Field(strict=False)] = ()
    dtypes: Annotated[tuple[Dtype, ...], Field(strict=False, min_length=1)] = ("bf16",)
    kernels: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = ("torch-grouped",)
    # Of `kernels`: those that are measured whatever they compute.
    unchecked_kernels: Annotated[tuple[str, ...], Field(strict=False)] = ()
    batch_sizes: BatchSizes
    patterns: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = ("uniform",)
    placements: Annotated[tuple[PlacementSection, ...], Field(strict=False, min_length=1)] = (
        PlacementSection(),
    )
    l2_state: Literal["cold", "warm"] = "cold"

    @field_validator("patterns")
    @classmethod
    def _parsed(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            try:
                parse(text)
            except WorkloadError as error:
                raise ValueError("; ".join(filter(None, (error.message, error.hint)))) from error
        return texts

    @model_validator(mode="after")
    def _something_to_run(self) -> WorkloadSection:
        if not self.models and not self.layers:
            raise ValueError("must name at least one of `models` and `layers`, got neither")
        return self

    @field_validator("models", "dtypes", "kernels", "unchecked_kernels", "patterns", "placements")
    @classmethod
    def _different(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        return _without_repeats(values)

    @model_validator(mode="after")
    def _unchecked_are_measured(self) -> WorkloadSection:
        for name in self.unchecked_kernels:
            if name == "auto":
                raise ValueError("unchecked_kernels must not name auto, which takes checked ones")
            if name not in self.kernels:
                near = get_close_matches(name, self.kernels, n=1) or self.kernels
                raise ValueError(
                    f"unchecked_kernels must be among kernels, got {name!r}; "
                    f"did you mean {' or '.join(near)}?"
                )
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> WorkloadSection:
        _without_repeats((*self.models, *(layer.name for layer in self.layers)))
        return self


class ConditioningSection(Strict):
    """How the device is warmed up, and the temperatures it is held at (none: not held)."""

    warm_up_seconds: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    hold_celsius: Annotated[
        tuple[Annotated[float, Field(ge=-40, le=110)], ...], Field(strict=False)
    ] = ()
    hold_tolerance_celsius: Annotated[float, Field(gt=0, le=10)] = 1.0
    hold_seconds_max: Annotated[float, Field(gt=0)] = 600.0

    @field_validator("hold_celsius")
    @classmethod
    def _different(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return _without_repeats(values)


class StoppingSection(Strict):
    """When a point has been timed enough: a narrow interval of the median, or the budget."""

    relative_half_width_fraction: Fraction = 0.01
    confidence: Fraction = 0.95
    num_samples_min: Annotated[int, Field(ge=5)] = 20
    num_samples_max: Annotated[int, Field(ge=5)] = 20_000
    seconds_max: Annotated[float, Field(gt=0)] = 10.0

    @model_validator(mode="after")
    def _ordered(self) -> StoppingSection:
        if self.num_samples_min > self.num_samples_max:
            raise ValueError(
                f"num_samples_min must not exceed num_samples_max ({self.num_samples_max}), "
                f"got {self.num_samples_min}"
            )
        return self


class EnergySection(Strict):
    """How energy per launch is measured, where the device has a counter."""

    enabled: bool = True
    relative_error_fraction: Fraction = 0.01
    window_seconds_min: Annotated[float, Field(gt=0)] = 1.0
    window_seconds_max: Annotated[float, Field(gt=0)] = 5.0

    @model_validator(mode="after")
    def _ordered(self) -> EnergySection:
        if self.window_seconds_min > self.window_seconds_max:
            raise ValueError(
                f"window_seconds_min must not exceed window_seconds_max "
                f"({self.window_seconds_max}), got {self.window_seconds_min}"
            )
        return self


class OrderSection(Strict):
    """How points are ordered, so that drift is not mistaken for batch size."""

    num_blocks: Count = 2
    sentinel_every: Annotated[int, Field(ge=0)] = 10  # 0: no sentinels


class Recipe(Strict):
    """A whole recipe: what to run, how the device is conditioned, and when to stop."""

    name: Annotated[str, Field(min_length=1)]
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    workload: WorkloadSection
    conditioning: ConditioningSection = ConditioningSection()
    stopping: StoppingSection = StoppingSection()
    energy: EnergySection = EnergySection()
    order: OrderSection = OrderSection()
