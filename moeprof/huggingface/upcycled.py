"""GPT-2 with Mixture-of-Experts blocks in place of feed-forward ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional

from moeprof.errors import CheckpointError, RecipeError
from moeprof.huggingface.extra import transformers
from moeprof.recipe.upcycling import UpcycleSection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor


class UpcycledGate(nn.Module):
    """A linear gate: softmax over all experts in float32, the k largest, normalised to sum 1."""

    def __init__(self, *, hidden_dim: int, num_experts: int, top_k: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.num_experts = num_experts
        self.top_k = top_k
        self.weight = nn.Parameter(torch.zeros(num_experts, hidden_dim))

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, [num_tokens, num_experts], and weights and experts, [num_tokens, top_k].

        Of hidden states [..., hidden_dim]; weights are in the logits' dtype.
        """
        logits = functional.linear(hidden_states.reshape(-1, self.hidden_dim), self.weight)
        scores = torch.softmax(logits, dim=-1, dtype=torch.float32)
        largest, experts = scores.topk(self.top_k, dim=-1)
        weights = largest / largest.sum(dim=-1, keepdim=True)
        return logits, weights.to(logits.dtype), experts


class UpcycledExperts(nn.Module):
    """The experts' two matrices with biases, stacked, each laid out [in, out] as in GPT-2."""

    def __init__(
        self,
        *,
        num_experts: int,
        hidden_dim: int,
        intermediate_dim: int,
        activation: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.num_experts = num_experts
        self.up_weight = nn.Parameter(torch.zeros(num_experts, hidden_dim, intermediate_dim))
        self.up_bias = nn.Parameter(torch.zeros(num_experts, intermediate_dim))
        self.down_weight = nn.Parameter(torch.zeros(num_experts, intermediate_dim, hidden_dim))
        self.down_bias = nn.Parameter(torch.zeros(num_experts, hidden_dim))
        self.activation = activation

    def forward(self, hidden_states: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted sum of each token's experts, [num_tokens, hidden_dim].

        Of hidden states so shaped, and experts and weights [num_tokens, k]. Only active experts
        are computed.
        """
        num_tokens, num_slots = experts.shape
        chosen = experts.flatten()
        order = chosen.argsort(stable=True)
        # Rows are copied before they are permuted: their gradients then add up in a fixed order.
        rows = hidden_states.repeat_interleave(num_slots, dim=0)[order]
        parts = torch.split(rows, chosen.bincount(minlength=self.num_experts).tolist())
        # Unbound once: indexing by expert would make a gradient of the whole stack for each.
        stacks = (self.up_weight, self.up_bias, self.down_weight, self.down_bias)
        matrices = zip(*(stack.unbind() for stack in stacks), strict=True)
        outputs = [
            self._expert(part, *own)
            for part, own in zip(parts, matrices, strict=True)
            if len(part) > 0
        ]
        slots = torch.cat(outputs)[order.argsort()].view(num_tokens, num_slots, -1)
        return (slots * weights.unsqueeze(-1)).sum(dim=1).to(hidden_states.dtype)

    def _expert(
        self,
        rows: Tensor,
        up_weight: Tensor,
        up_bias: Tensor,
        down_weight: Tensor,
        down_bias: Tensor,
    ) -> Tensor:
        inner = self.activation(torch.addmm(up_bias, rows, up_weight))
        return torch.addmm(down_bias, inner, down_weight)


class UpcycledMoE(nn.Module):
    """An MoE block in place of a `GPT2MLP`: a gate, experts, and the dense block's dropout."""

    def __init__(self, dense: Any, *, num_experts: int, top_k: int) -> None:
        super().__init__()
        hidden_dim, intermediate_dim = dense.c_fc.weight.shape
        self.gate = UpcycledGate(hidden_dim=hidden_dim, num_experts=num_experts, top_k=top_k)
        self.experts = UpcycledExperts(
            num_experts=num_experts,
            hidden_dim=hidden_dim,
            intermediate_dim=intermediate_dim,
            activation=dense.act,
        )
        self.dropout = dense.dropout

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return the block's output, [..., hidden_dim], of hidden states so shaped."""
        rows = hidden_states.reshape(-1, hidden_states.shape[-1])
        _, weights, experts = self.gate(rows)
        output: Tensor = self.dropout(self.experts(rows, experts, weights))
        return output.view_as(hidden_states)


def make_room(model: Any, settings: UpcycleSection) -> dict[int, Any]:
    """Put MoE blocks whose parameters are zero into a GPT-2; return the dense blocks taken out.

    By layer. Blocks have the dtype and device of what they replace. Raises RecipeError, with
    nothing changed: the model has no such layer.
    """
    layers = model.transformer.h
    taken = {number: layers[number].mlp for number in settings.layer_numbers(len(layers))}
    for number, dense in taken.items():
        block = UpcycledMoE(dense, num_experts=settings.num_experts, top_k=settings.top_k)
        layers[number].mlp = block.to(dense.c_fc.weight).train(dense.training)
    return taken


def build_upcycled(config: Any, settings: Mapping[str, object]) -> nn.Module:
    """Return an upcycled GPT-2 in eval mode, for the weights of one that was saved.

    `config` is its GPT2Config; `settings`, the section `upcycled` of its `moeprof.json`, are what
    it was upcycled by. Raises CheckpointError: the settings do not describe a GPT-2 of this size.
    """
    model = transformers().GPT2LMHeadModel(config).eval()
    try:
        make_room(model, UpcycleSection.model_validate(dict(settings)))
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise CheckpointError(f"upcycled.{key}: {fault['msg']}, got {fault['input']!r}") from error
    except RecipeError as error:
        raise CheckpointError(error.message.replace("upcycle.", "upcycled.", 1)) from error
    upcycled: nn.Module = model
    return upcycled
