"""How similar the experts behind a scene's traffic are, layer by layer, as SERE asks."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, cast

import torch
from torch import nn

from moeprof.errors import CheckpointError
from moeprof.evaluation.traffic.live import LiveTraffic
from moeprof.evaluation.traffic.open import SHIPPED
from moeprof.gate.site import find_gates
from moeprof.huggingface.load import load_model
from moeprof.resources import data_folder
from moeprof.router.policies.similarity import frobenius_similarity

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.evaluation.traffic.protocol import Traffic
    from moeprof.gate.site import GateSite
    from moeprof.recipe.scene import Scene

ROUTER: Final = "sere"
NUM_STATES: Final = 256


def without_outputs(scene: Scene) -> str | None:
    """Return why no experts' outputs can be compared for a scene; None: they can."""
    traffic = scene.traffic
    if traffic.kind == "live":
        return None
    if traffic.kind == "generated":
        return "it needs experts' outputs, and generated traffic has none"
    if traffic.source != SHIPPED:
        return "it needs experts' outputs, and the recorded trace comes without its model"
    if find_spec("transformers") is None:
        return "it needs experts' outputs, and Transformers, which computes them, is not installed"
    return None


def similarities_behind(scene: Scene, traffic: Traffic) -> dict[int, Tensor]:
    """Return what `similarities_of` does for the model that a scene's traffic is of.

    Must not be asked where `without_outputs` has a reason. Raises what `load_model` and
    `similarities_of` raise.
    """
    assert without_outputs(scene) is None, "nobody is asked for what there is not"
    if isinstance(traffic, LiveTraffic):
        return similarities_of(traffic.model, traffic.num_layers)
    return similarities_of(load_model(data_folder() / SHIPPED).model, traffic.num_layers)


def similarities_of(model: nn.Module, num_layers: int | None = None) -> dict[int, Tensor]:
    """Return how similar the experts of each MoE layer are, [num_experts, num_experts] of float32.

    Keys are the layers' places among the MoE layers, from 0, as simulations count them;
    `num_layers` None: all of them. All experts of a layer are shown the same hidden states, drawn
    from a normal distribution of unit variance, always the same. SERE's authors show them text
    (see `frobenius_similarity`): random states know nothing of which tokens a layer meets.

    Raises CheckpointError: no gates of a known family, or experts that are not one module beside
    the gate, as Transformers has them from 5.0 on.
    """
    sites = find_gates(model)[:num_layers]
    return {place: frobenius_similarity(_outputs(site)) for place, site in enumerate(sites)}


def _outputs(site: GateSite) -> Tensor:
    """Return what every expert makes of the same states, [num_experts, states · hidden_size]."""
    experts = getattr(site.block, "experts", None)
    if not isinstance(experts, nn.Module) or isinstance(experts, nn.ModuleList):
        raise CheckpointError(
            f"layer {site.layer} ({site.family}): must have its experts in one module beside its "
            f"gate, has {type(experts).__name__}",
            hint="Upgrade Transformers, or leave the router sere out of the scene's policies.",
        )
    weight = next(experts.parameters())
    # Of all modules the gate says the hidden size in every family; experts' axes differ.
    hidden_size = int(cast("Any", site.gate).hidden_dim)
    random = torch.Generator().manual_seed(0)
    states = torch.randn(NUM_STATES, hidden_size, generator=random).to(weight.device, weight.dtype)
    num_experts = site.rule.num_experts
    whose = torch.arange(num_experts, device=weight.device).repeat_interleave(NUM_STATES)
    rows = states.repeat(num_experts, 1)
    with torch.inference_mode():
        found: Tensor = experts(rows, whose[:, None], torch.ones_like(rows[:, :1]))
        return found.view(num_experts, -1)
