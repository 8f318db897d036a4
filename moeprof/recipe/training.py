"""The sections and keys of a training recipe, their defaults and their ranges."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from moeprof.recipe.schema import Count, Strict
from moeprof.recipe.upcycling import UpcycleSection

Family = Literal["qwen3-moe", "mixtral", "deepseek-v3"]
LossName = Literal["switch", "deviation", "entropy", "kl-uniform", "z-loss"]
Share = Annotated[float, Field(gt=0, lt=0.5)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Steps = Annotated[int, Field(ge=1, le=10_000_000)]


class ModelSection(Strict):
    """A decoder-only MoE of Transformers by its sizes; tokens are bytes."""

    family: Family = "qwen3-moe"
    hidden_size: Annotated[int, Field(ge=8, le=16_384)] = 128
    num_layers: Annotated[int, Field(ge=1, le=256)] = 4
    num_heads: Count = 4
    num_key_value_heads: Count = 2
    num_experts: Annotated[int, Field(ge=2, le=1024)] = 16
    top_k: Annotated[int, Field(ge=1, validate_default=True)] = 2
    expert_size: Annotated[int, Field(ge=4, le=65_536)] = 128
    # The standard deviation that weights are drawn with.
    initial_deviation: Annotated[float, Field(gt=0, le=1)] = 0.02

    @field_validator("top_k")
    @classmethod
    def _possible(cls, top_k: int, info: ValidationInfo) -> int:
        num_experts = info.data.get("num_experts")
        if num_experts is not None and top_k > num_experts:
            raise ValueError(f"must be at most num_experts {num_experts}, got {top_k}")
        return top_k

    @model_validator(mode="after")
    def _gate_can_learn(self) -> Self:
        if self.family == "mixtral" and self.top_k == 1:
            raise ValueError(
                "mixtral's gate learns nothing with top_k 1, because it divides the only weight "
                "by itself; give top_k 2 or another family"
            )
        return self

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"hidden_size must be a multiple of twice num_heads ({2 * self.num_heads}), "
                f"got {self.hidden_size}"
            )
        if self.num_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_heads must be a multiple of num_key_value_heads "
                f"({self.num_key_value_heads}), got {self.num_heads}"
            )
        return self


class TextSection(Strict):
    """How the text is split by file, and cut into windows."""

    validation_fraction: Share = 0.05
    test_fraction: Share = 0.05
    num_window_tokens: Annotated[int, Field(ge=8, le=65_536)] = 256


class OptimiserSection(Strict):
    """AdamW under a rise and a cosine fall of the learning rate."""

    num_steps: Steps = 1000
    num_windows_per_step: Count = 16
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 3e-3
    # The gates learn so many times as fast as the rest; they decide what the experts see.
    gate_learning_rate_factor: Positive = 1.0
    num_warm_up_steps: Annotated[int, Field(ge=0)] = 50
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.1
    gradient_norm_max: Positive = 1.0

    @model_validator(mode="after")
    def _rises_in_time(self) -> Self:
        if self.num_warm_up_steps >= self.num_steps:
            raise ValueError(
                f"num_warm_up_steps must be less than num_steps ({self.num_steps}), "
                f"got {self.num_warm_up_steps}"
            )
        return self


class LossSection(Strict):
    """One auxiliary loss and what it counts for beside the cross-entropy."""

    name: LossName
    weight: Weight


class GateSection(Strict):
    """What enters the gates' choice beside their logits."""

    # Logits are divided by it before the softmax; 1 is the model's own gate.
    softmax_temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
    # Added to, or taken from, an expert's bias after each step; absent: there is no bias.
    bias_update_speed: Annotated[float, Field(gt=0, le=1)] | None = None


class WatchSection(Strict):
    """How often and on how much the model is judged, and how often the run is kept."""

    validate_every_steps: Steps = 100
    num_validation_windows_max: Count = 256
    # Absent: the whole test split is judged at the end.
    num_test_windows_max: Count | None = None
    checkpoint_every_seconds: Annotated[float, Field(ge=0)] = 30.0


def _each_once(names: list[str], what: str) -> None:
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f"{what} must differ in name, got {repeated!r} twice")


class VariantSection(Strict):
    """One way to train in a study: what replaces the recipe's own losses and gate."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=40)]
    losses: Annotated[tuple[LossSection, ...], Field(strict=False)] = ()
    gate: GateSection = GateSection()

    @field_validator("losses")
    @classmethod
    def _different(cls, losses: tuple[LossSection, ...]) -> tuple[LossSection, ...]:
        _each_once([loss.name for loss in losses], "losses")
        return losses


class TrainingRecipe(Strict):
    """A whole training recipe; with `variants` it is a study of all of them under every seed."""

    name: Annotated[str, Field(min_length=1)]
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    model: ModelSection | None = None
    upcycle: UpcycleSection | None = None
    text: TextSection = TextSection()
    optimiser: OptimiserSection = OptimiserSection()
    losses: Annotated[tuple[LossSection, ...], Field(strict=False)] = ()
    gate: GateSection = GateSection()
    watch: WatchSection = WatchSection()
    saved_dtype: Literal["fp32", "bf16"] = "bf16"
    variants: Annotated[tuple[VariantSection, ...], Field(strict=False)] = ()
    num_seeds: Annotated[int, Field(ge=1, le=100)] = 1

    @field_validator("losses")
    @classmethod
    def _different_losses(cls, losses: tuple[LossSection, ...]) -> tuple[LossSection, ...]:
        _each_once([loss.name for loss in losses], "losses")
        return losses

    @field_validator("variants")
    @classmethod
    def _different(cls, variants: tuple[VariantSection, ...]) -> tuple[VariantSection, ...]:
        _each_once([variant.name for variant in variants], "variants")
        return variants

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        if (self.model is None) == (self.upcycle is None):
            found = "neither" if self.model is None else "both"
            raise ValueError(
                f"must have one of the sections model (from nothing) and upcycle (from a dense "
                f"model), got {found}"
            )
        return self

    @model_validator(mode="after")
    def _a_study_or_not(self) -> Self:
        if self.variants and (self.losses or self.gate != GateSection()):
            raise ValueError(
                "losses and gate belong to each of the variants where there are any, "
                "got them beside variants"
            )
        if self.variants and self.upcycle is not None:
            raise ValueError("variants train a model from nothing, got them with upcycle")
        if not self.variants and self.num_seeds > 1:
            raise ValueError(f"num_seeds belongs to a study with variants, got {self.num_seeds}")
        if self.seed + self.num_seeds > 2**63:
            raise ValueError(f"seed must leave room below 2**63 for num_seeds, got {self.seed}")
        return self
