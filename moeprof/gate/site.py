"""Where the gates of a live model sit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.errors import CheckpointError
from moeprof.gate.families import check_version, family_names, family_of, rule_of_gate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from moeprof.gate.families import GateFamily
    from moeprof.gate.rule import GateRule


@dataclass(frozen=True, slots=True, eq=False)
class GateSite:
    """The gate of one MoE layer of a live model."""

    layer: int
    """The index of the decoder layer; of several gates without one, their order."""
    gate: nn.Module
    """The module whose forward returns router logits, weights and experts."""
    block: nn.Module
    """The MoE block that owns the gate."""
    kind: GateFamily

    @property
    def family(self) -> str:
        """The family's name: mixtral, qwen2-moe, qwen3-moe, olmoe, deepseek-v3, gpt-oss, upcycled.

        Of one model all gates are of one family.
        """
        return self.kind.name

    @property
    def rule(self) -> GateRule:
        """The gate's rule, as the gate is now: moved, retrained or tuned since the site was found.

        Its tensors are the gate's own.
        """
        return rule_of_gate(self.gate, self.kind)

    def logits(self, hidden_states: Tensor) -> Tensor:
        """Return router logits, [num_tokens, num_experts], of [..., hidden_size], as the gate does.

        In float32 for DeepSeek-V3, else in the type of the hidden states.
        """
        return self.kind.logits(self.gate, hidden_states)


def find_gates(model: nn.Module) -> tuple[GateSite, ...]:
    """Return the gates of a model's MoE layers, in layer order.

    Raises CheckpointError: the model has no gate of a known family, gates of several, those of a
    Transformers that is too old, or one that takes more experts than it has.
    """
    check_version()
    modules = dict(model.named_modules())
    sites: list[GateSite] = []
    for name, module in modules.items():
        if kind := family_of(module):
            numbers = [int(part) for part in name.split(".") if part.isdigit()]
            layer = numbers[-1] if numbers else len(sites)
            sites.append(GateSite(layer, module, modules[name.rpartition(".")[0]], kind))
    families = sorted({site.family for site in sites})
    if len(families) != 1:
        found = f"gates of {' and '.join(families)}" if families else "none"
        raise CheckpointError(
            f"model {type(model).__name__}: must have the gates of one known family, found {found}",
            hint=f"Known are {', '.join(family_names())}.",
        )
    for site in sites:
        _check_top_k(site)
    return tuple(sorted(sites, key=lambda site: site.layer))


def _check_top_k(site: GateSite) -> None:
    rule = site.rule
    if not 1 <= rule.top_k <= rule.num_experts:
        raise CheckpointError(
            f"gate of layer {site.layer}: its top_k must lie in 1..{rule.num_experts}, "
            f"got {rule.top_k}"
        )
