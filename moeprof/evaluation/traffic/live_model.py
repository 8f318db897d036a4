"""A model, and windows of text that it was not trained on, made into live traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from moeprof.errors import RecipeError, TextError
from moeprof.evaluation.traffic.experts import check_experts
from moeprof.evaluation.traffic.live import LiveTraffic
from moeprof.evaluation.traffic.slots import (
    draw_slots,
    generator,
    num_steps_profiled,
    rows_of_steps,
    split,
)
from moeprof.gate.site import find_gates
from moeprof.huggingface.load import load_model
from moeprof.huggingface.text import token_ids
from moeprof.router.patch import patch

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from moeprof.gate.rule import GateRule, Routing
    from moeprof.gate.site import GateSite
    from moeprof.huggingface.load import LoadedModel
    from moeprof.recipe.scene import Scene
    from moeprof.router.protocol import RoutingContext
    from moeprof.workload.layer import MoELayer

TEXT_NAME: Final = "held-out.txt"
WINDOW_TOKENS: Final = 256  # data/mini-moe/held-out.txt is made of windows so long
_AT_ONCE: Final = 16  # windows profiled in one forward pass


def live_traffic(scene: Scene, layer: MoELayer, folder: Path) -> LiveTraffic:
    """Return the traffic that a scene asks of the model in a folder, on the CPU.

    The folder's held-out.txt is cut into windows of 256 tokens, or the next multiple of it that
    holds context, steps and the last next token; a request is the beginning of one. Within a seed
    all are different; a random fourth of the windows is not simulated: balancers are shown it.
    Without context_tokens, one token is the context.

    Raises:
        CheckpointError: no model of a known family in the folder.
        ExtraMissing: Transformers is not installed.
        TextError: no held-out.txt, or too short.
        RecipeError: other experts than `layer`'s, or more requests than windows, positions than the
            model's, or layers than it has.

    """
    traffic = scene.traffic
    if not (folder / TEXT_NAME).is_file():
        raise TextError(
            f"{folder}: must have {TEXT_NAME}, text for live traffic to read, has none",
            hint="moeprof train writes one beside the model; or put text there that the model "
            "was not trained on.",
        )
    loaded = load_model(folder)
    sites = _sites(loaded, folder, traffic.num_layers)
    rule = sites[0].rule
    check_experts(scene, layer, num_experts=rule.num_experts, top_k=rule.top_k)
    num_steps = traffic.num_settling_steps + traffic.num_steps
    num_context = max(traffic.context_tokens, 1)
    num_needed = num_context + num_steps + 1
    windows = _windows(loaded, folder, num_needed)
    simulated, reserved = split(len(windows), scene.seed)
    if traffic.batch_size > len(simulated):
        raise RecipeError(
            f"traffic.batch_size: must be at most {len(simulated)}, the windows of "
            f"{folder / TEXT_NAME} that are not kept for balancers, got {traffic.batch_size}",
            hint="Take smaller batches, or fewer tokens so that windows are shorter.",
        )
    chosen = np.stack(
        [
            generator(scene.seed, 1, seed).choice(simulated, traffic.batch_size, replace=False)
            for seed in range(scene.num_seeds)
        ]
    )
    tokens = windows[torch.from_numpy(chosen.ravel()), :num_needed].contiguous()
    context = _forward(loaded.model, tokens[:, :num_context])
    slots = draw_slots(
        np.full(len(reserved), windows.shape[1]),
        context_tokens=traffic.context_tokens,
        num_steps=num_steps_profiled(traffic.batch_size),
        batch_size=traffic.batch_size,
        random=generator(scene.seed, 2),
    )
    shown, places = np.unique(slots.requests, return_inverse=True)
    experts = _plain_experts(loaded.model, sites, windows[torch.from_numpy(reserved[shown])])
    rows = places.reshape(slots.requests.shape) * windows.shape[1] + slots.positions
    return LiveTraffic(
        model=loaded.model,
        tokens=tokens,
        chosen=chosen,
        context=context,
        num_context=num_context,
        num_seeds=scene.num_seeds,
        rules=tuple(site.rule for site in sites),
        places={site.layer: place for place, site in enumerate(sites)},
        profiled=rows_of_steps(experts, rows, rule.num_experts),
    )


def _sites(loaded: LoadedModel, folder: Path, num_layers: int | None) -> tuple[GateSite, ...]:
    sites = find_gates(loaded.model)
    if num_layers is not None and num_layers > len(sites):
        raise RecipeError(
            f"traffic.num_layers: must be at most {len(sites)}, the MoE layers of {folder}, "
            f"got {num_layers}"
        )
    return sites[:num_layers]


def _windows(loaded: LoadedModel, folder: Path, num_needed: int) -> Tensor:
    """Return the text's windows, [at least two, window], int64."""
    most = getattr(loaded.model.config, "max_position_embeddings", None)
    if most is not None and num_needed > most:
        raise RecipeError(
            f"traffic: context_tokens, num_settling_steps and num_steps must make at most "
            f"{most - 1}, for {loaded.name} has {most} positions, got {num_needed - 1}"
        )
    length = -(-num_needed // WINDOW_TOKENS) * WINDOW_TOKENS
    if most is not None:
        length = min(length, most)
    path = folder / TEXT_NAME
    found = token_ids(path, loaded.encode)
    num_windows = len(found) // length
    if num_windows < 2:  # noqa: PLR2004 - one to simulate, one to profile
        raise TextError(
            f"{path}: must have two windows of {length} tokens, has {len(found)} tokens",
            hint="Give a longer text, or fewer steps or context_tokens.",
        )
    return torch.tensor(found[: num_windows * length], dtype=torch.int64).view(-1, length)


def _forward(model: nn.Module, tokens: Tensor) -> Any:
    """Return the cache that is left by running over tokens, [num_sequences, num_tokens]."""
    with torch.inference_mode():
        return model(input_ids=tokens, use_cache=True).past_key_values


def _plain_experts(
    model: nn.Module, sites: tuple[GateSite, ...], windows: Tensor
) -> list[NDArray[np.int64]]:
    """Return the experts that each layer itself chooses, [num_tokens, top_k] each."""
    watched = _Watched()
    with patch(model, watched):
        for first in range(0, len(windows), _AT_ONCE):
            _forward(model, windows[first : first + _AT_ONCE])
    return [np.concatenate(watched.experts[site.layer]) for site in sites]


class _Watched:
    """The model's own choice, noted by layer."""

    def __init__(self) -> None:
        self.experts: dict[int, list[NDArray[np.int64]]] = {}

    def route(self, logits: Tensor, context: RoutingContext) -> Routing:
        """Return what the model's rule does."""
        return self._noted(context.layer, context.rule, logits)

    def _noted(self, layer: int, rule: GateRule, logits: Tensor) -> Routing:
        plain = rule.choose(logits)
        self.experts.setdefault(layer, []).append(plain.experts.numpy())
        return plain
