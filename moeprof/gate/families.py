"""The families of MoE models whose gates are known, by the names of their gates' classes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.nn import functional

from moeprof.errors import CheckpointError
from moeprof.gate.grouped_sigmoid import GroupedSigmoidRule
from moeprof.gate.softmax import SoftmaxRule
from moeprof.gate.top_logits import TopLogitsRule
from moeprof.gate.tuning import PLAIN, GateTuning

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from moeprof.gate.rule import GateRule

TUNING: Final = "moeprof_tuning"  # the attribute of a gate that holds its GateTuning, if any
_SINCE: Final = (5, 13)
_WRITTEN_FOR: Final = "5.13 to 5.23"
_UPGRADE: Final = "pip install --upgrade 'moeprof[hf]'"
_OF_ALL: Final = ("weight", "top_k", "num_experts", "hidden_dim")


@dataclass(frozen=True, slots=True)
class GateFamily:
    """How the gates of one family are read."""

    name: str
    attributes: tuple[str, ...]
    """What a gate must have beside those that every gate has."""
    # Any, since a gate's attributes are those of a class that this package does not import.
    logits: Callable[[Any, Tensor], Tensor]
    rule: Callable[[Any, GateTuning], GateRule]


def family_of(module: nn.Module) -> GateFamily | None:
    """Return the family whose gate `module` is, None for any other module.

    Raises CheckpointError: the gate is of a known class, but not as Transformers writes it now.
    """
    names = (base.__name__ for base in type(module).__mro__)
    family = next((_BY_CLASS[name] for name in names if name in _BY_CLASS), None)
    if family is None:
        return None
    missing = [name for name in (*_OF_ALL, *family.attributes) if not hasattr(module, name)]
    if missing:
        raise CheckpointError(
            f"gate {type(module).__name__} ({family.name}): must have {', '.join(missing)}, "
            f"as in transformers {_WRITTEN_FOR}",
            hint=_UPGRADE,
        )
    return family


def check_version() -> None:
    """Return if the gates of the Transformers installed work as the rules say, or none is.

    Raises CheckpointError: it is older. Before 5.13 the gates of DeepSeek-V3 did not choose, and
    in 5.0 those of the softmax families recorded probabilities as logits and kept float32.
    """
    try:
        found = version("transformers")
    except PackageNotFoundError:
        return
    numbers = tuple(int(digits) for digits in re.findall(r"\d+", found)[:2])
    if numbers < _SINCE:
        raise CheckpointError(
            f"transformers must be at least {'.'.join(map(str, _SINCE))}, found {found}",
            hint=_UPGRADE,
        )


def family_names() -> tuple[str, ...]:
    """Return the names of the families that are known."""
    return tuple(dict.fromkeys(family.name for family in _BY_CLASS.values()))


def rule_of_gate(gate: nn.Module, family: GateFamily) -> GateRule:
    """Return the rule of a gate as the gate is now, with what it is tuned by."""
    return family.rule(gate, getattr(gate, TUNING, PLAIN))


def _logits(gate: Any, hidden_states: Tensor) -> Tensor:
    return functional.linear(_rows(gate, hidden_states), gate.weight)


def _logits_in_float32(gate: Any, hidden_states: Tensor) -> Tensor:
    rows = _rows(gate, hidden_states).type(torch.float32)
    return functional.linear(rows, gate.weight.type(torch.float32))


def _logits_with_bias(gate: Any, hidden_states: Tensor) -> Tensor:
    return functional.linear(_rows(gate, hidden_states), gate.weight, gate.bias)


def _rows(gate: Any, hidden_states: Tensor) -> Tensor:
    return hidden_states.reshape(-1, gate.hidden_dim)


def _mixtral(gate: Any, tuning: GateTuning) -> GateRule:
    return SoftmaxRule(
        gate.num_experts, gate.top_k, renormalised=True, float32_weights=True, tuning=tuning
    )


def _qwen(gate: Any, tuning: GateTuning) -> GateRule:
    return SoftmaxRule(
        gate.num_experts,
        gate.top_k,
        renormalised=bool(gate.norm_topk_prob),
        float32_weights=False,
        tuning=tuning,
    )


def _upcycled(gate: Any, tuning: GateTuning) -> GateRule:
    return SoftmaxRule(
        gate.num_experts, gate.top_k, renormalised=True, float32_weights=False, tuning=tuning
    )


def _deepseek_v3(gate: Any, tuning: GateTuning) -> GateRule:
    return GroupedSigmoidRule(
        num_experts=gate.num_experts,
        top_k=gate.top_k,
        num_groups=gate.num_group,
        num_groups_used=gate.topk_group,
        renormalised=bool(gate.norm_topk_prob),
        scaling_factor=gate.routed_scaling_factor,
        correction_bias=gate.e_score_correction_bias,
        tuning=tuning,
    )


def _gpt_oss(gate: Any, tuning: GateTuning) -> GateRule:
    return TopLogitsRule(gate.num_experts, gate.top_k, tuning=tuning)


_DEEPSEEK_V3_ATTRIBUTES: Final = (
    "num_group",
    "topk_group",
    "norm_topk_prob",
    "routed_scaling_factor",
    "e_score_correction_bias",
)
_BY_CLASS: Final = {
    "MixtralTopKRouter": GateFamily("mixtral", (), _logits, _mixtral),
    "Qwen2MoeTopKRouter": GateFamily("qwen2-moe", ("norm_topk_prob",), _logits, _qwen),
    "Qwen3MoeTopKRouter": GateFamily("qwen3-moe", ("norm_topk_prob",), _logits, _qwen),
    "OlmoeTopKRouter": GateFamily("olmoe", ("norm_topk_prob",), _logits, _qwen),
    "DeepseekV3TopkRouter": GateFamily(
        "deepseek-v3", _DEEPSEEK_V3_ATTRIBUTES, _logits_in_float32, _deepseek_v3
    ),
    "GptOssTopKRouter": GateFamily("gpt-oss", ("bias",), _logits_with_bias, _gpt_oss),
    "UpcycledGate": GateFamily("upcycled", (), _logits, _upcycled),
}
