"""Turns a dense GPT-2 into a Mixture-of-Experts that computes the same function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from moeprof.huggingface.upcycled import make_room

if TYPE_CHECKING:
    from torch import Tensor, nn

    from moeprof.recipe.upcycling import UpcycleSection


def upcycle(model: Any, settings: UpcycleSection) -> nn.Module:
    """Replace feed-forward blocks of a GPT2LMHeadModel by MoE blocks; return the model itself.

    Every expert is a copy of the dense block, and a token's weights sum to 1, so without noise the
    outputs stay what they were, whichever experts the gate takes (sparse upcycling,
    arXiv:2212.05055). Noise, where asked for, goes to the weights and not the biases. The gate
    starts random, with GPT-2's own `initializer_range` as standard deviation. The same settings
    give the same model on every device. Raises RecipeError, with nothing changed: the model has no
    such layer.
    """
    random = torch.Generator().manual_seed(settings.seed)
    for number, dense in make_room(model, settings).items():
        block = model.transformer.h[number].mlp
        with torch.no_grad():
            gate = torch.randn(block.gate.weight.shape, generator=random)
            block.gate.weight.copy_(gate * model.config.initializer_range)
            experts = block.experts
            for copies, original in (
                (experts.up_weight, dense.c_fc.weight),
                (experts.down_weight, dense.c_proj.weight),
            ):
                copies.copy_(original.expand_as(copies))
                if settings.noise_fraction > 0:
                    _blur(copies, original, settings.noise_fraction, random)
            experts.up_bias.copy_(dense.c_fc.bias.expand_as(experts.up_bias))
            experts.down_bias.copy_(dense.c_proj.bias.expand_as(experts.down_bias))
    upcycled: nn.Module = model
    return upcycled


def _blur(copies: Tensor, original: Tensor, noise_fraction: float, random: torch.Generator) -> None:
    scale = noise_fraction * original.float().std()
    for copy in copies:
        noise = torch.randn(copy.shape, generator=random).to(copy.device)
        copy.add_((noise * scale).to(copy.dtype))
