"""A gate's rule as plain values for a file, and the rule made of them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field, TypeAdapter, ValidationError, model_validator
from torch import Tensor

from moeprof.errors import TraceError
from moeprof.gate.grouped_sigmoid import GroupedSigmoidRule
from moeprof.gate.softmax import SoftmaxRule
from moeprof.gate.top_logits import TopLogitsRule
from moeprof.gate.tuning import PLAIN, GateTuning
from moeprof.recipe.schema import Strict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moeprof.gate.rule import GateRule

_Count = Annotated[int, Field(ge=1, le=2**16)]
_Values = list[float]


class _Described(Strict):
    num_experts: _Count
    top_k: _Count
    softmax_temperature: Annotated[float, Field(gt=0)] | None
    selection_bias: _Values | None

    @model_validator(mode="after")
    def _possible(self) -> _Described:
        if self.top_k > self.num_experts:
            raise ValueError(f"top_k must be at most {self.num_experts}, got {self.top_k}")
        self._one_per_expert("selection_bias", self.selection_bias)
        return self

    def _one_per_expert(self, name: str, values: _Values | None) -> None:
        if values is not None and len(values) != self.num_experts:
            raise ValueError(f"{name} must have {self.num_experts} values, got {len(values)}")

    def tuning(self) -> GateTuning:
        """Return what the gate was tuned by."""
        if self.softmax_temperature is None and self.selection_bias is None:
            return PLAIN
        bias = None if self.selection_bias is None else _tensor(self.selection_bias)
        return GateTuning(self.softmax_temperature, bias)


class _Softmax(_Described):
    rule: Literal["softmax"]
    renormalised: bool
    float32_weights: bool


class _GroupedSigmoid(_Described):
    rule: Literal["grouped-sigmoid"]
    num_groups: _Count
    num_groups_used: _Count
    renormalised: bool
    scaling_factor: float
    correction_bias: _Values

    @model_validator(mode="after")
    def _groups_possible(self) -> _GroupedSigmoid:
        self._one_per_expert("correction_bias", self.correction_bias)
        if self.num_experts % self.num_groups or self.num_groups * 2 > self.num_experts:
            raise ValueError(
                f"num_groups must divide {self.num_experts} experts into groups of at least two, "
                f"got {self.num_groups}"
            )
        if self.num_groups_used > self.num_groups:
            raise ValueError(
                f"num_groups_used must be at most {self.num_groups}, got {self.num_groups_used}"
            )
        return self


class _TopLogits(_Described):
    rule: Literal["top-logits"]


_ANY: TypeAdapter[_Softmax | _GroupedSigmoid | _TopLogits] = TypeAdapter(
    Annotated[_Softmax | _GroupedSigmoid | _TopLogits, Field(discriminator="rule")]
)


def describe(rule: GateRule) -> dict[str, Any]:
    """Return what `rule_of` makes the same rule of, bit for bit: numbers, texts, lists and None."""
    match rule:
        case SoftmaxRule():
            own: dict[str, Any] = {
                "rule": "softmax",
                "renormalised": rule.renormalised,
                "float32_weights": rule.float32_weights,
            }
        case GroupedSigmoidRule():
            own = {
                "rule": "grouped-sigmoid",
                "num_groups": rule.num_groups,
                "num_groups_used": rule.num_groups_used,
                "renormalised": rule.renormalised,
                "scaling_factor": rule.scaling_factor,
                "correction_bias": _numbers(rule.correction_bias),
            }
        case TopLogitsRule():
            own = {"rule": "top-logits"}
        case _:
            raise TypeError(f"no description of {type(rule).__name__}")
    bias = rule.tuning.selection_bias
    return own | {
        "num_experts": rule.num_experts,
        "top_k": rule.top_k,
        "softmax_temperature": rule.tuning.softmax_temperature,
        "selection_bias": None if bias is None else _numbers(bias),
    }


def rule_of(description: Mapping[str, Any]) -> GateRule:
    """Return the rule that `describe` described, its tensors in float32 on the CPU.

    Raises TraceError: a key is missing, unknown, or has an impossible value.
    """
    try:
        found = _ANY.validate_python(dict(description))
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(str(part) for part in ("gate rule", *detail["loc"]))
        raise TraceError(
            f"{where}: {detail['msg']}, got {detail['input']!r:.60}",
            hint="Record the trace again, or take an undamaged copy of it.",
        ) from error
    match found:
        case _Softmax():
            return SoftmaxRule(
                found.num_experts,
                found.top_k,
                renormalised=found.renormalised,
                float32_weights=found.float32_weights,
                tuning=found.tuning(),
            )
        case _GroupedSigmoid():
            return GroupedSigmoidRule(
                num_experts=found.num_experts,
                top_k=found.top_k,
                num_groups=found.num_groups,
                num_groups_used=found.num_groups_used,
                renormalised=found.renormalised,
                scaling_factor=found.scaling_factor,
                correction_bias=_tensor(found.correction_bias),
                tuning=found.tuning(),
            )
        case _TopLogits():
            return TopLogitsRule(found.num_experts, found.top_k, tuning=found.tuning())


def _tensor(values: _Values) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _numbers(values: Tensor) -> _Values:
    return [float(value) for value in values.detach().float().cpu().tolist()]
