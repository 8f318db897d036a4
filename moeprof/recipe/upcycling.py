"""The section of a training recipe that says how a dense model becomes a Mixture-of-Experts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from moeprof.errors import RecipeError
from moeprof.recipe.schema import Strict

_EXAMPLE = '"all" or a list of layer numbers from 0, each once'


def _layers(value: object) -> Literal["all"] | tuple[int, ...]:
    if value == "all":
        return "all"
    if isinstance(value, list | tuple) and value:
        numbers = tuple(each for each in value if type(each) is int and each >= 0)
        if len(numbers) == len(value) == len(set(numbers)):
            return tuple(sorted(numbers))
    raise ValueError(f"must be {_EXAMPLE}, got {value!r}")


class UpcycleSection(Strict):
    """Which feed-forward blocks become MoE layers, and of what size.

    Every expert starts as a copy of the dense block (sparse upcycling, arXiv:2212.05055).
    """

    layers: Annotated[Literal["all"] | tuple[int, ...], BeforeValidator(_layers)] = "all"
    num_experts: Annotated[int, Field(ge=1, le=1024)] = 8
    # With 1 every weight is 1, and cross-entropy teaches the gates nothing.
    top_k: Annotated[int, Field(ge=1, validate_default=True)] = 2
    # Noise added to each copy's weights: its standard deviation over that of the dense block's.
    noise_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @field_validator("top_k")
    @classmethod
    def _possible(cls, top_k: int, info: ValidationInfo) -> int:
        num_experts = info.data.get("num_experts")
        if num_experts is not None and top_k > num_experts:
            raise ValueError(f"must be at most num_experts {num_experts}, got {top_k}")
        return top_k

    def layer_numbers(self, num_layers: int) -> tuple[int, ...]:
        """Return the layers to change of a model with `num_layers`, rising.

        Raises RecipeError: the model has no such layer.
        """
        if self.layers == "all":
            return tuple(range(num_layers))
        if self.layers[-1] >= num_layers:
            raise RecipeError(
                f"upcycle.layers: must lie in 0..{num_layers - 1}, for the model has {num_layers} "
                f"layers; got {self.layers[-1]}"
            )
        return self.layers
