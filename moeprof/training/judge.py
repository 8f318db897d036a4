"""A finished model judged on text that it was not trained on, as it will be used."""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from moeprof.training.figures import Judgement
from moeprof.training.gate_watch import GateWatch
from moeprof.training.metrics import routing_metrics
from moeprof.training.windows import judged_batches

if TYPE_CHECKING:
    from torch import nn

    from moeprof.training.windows import TokenText


@torch.no_grad()
def judge(
    model: nn.Module,
    text: TokenText,
    *,
    length: int,
    num_per_batch: int,
    num_windows_max: int | None,
    device: torch.device,
) -> Judgement:
    """Judge a model in eval mode on a text in windows of `length` tokens, of many evenly spaced."""
    batches = judged_batches(
        text, length=length, num_per_batch=num_per_batch, num_windows_max=num_windows_max
    )
    nats, num_tokens, routings = 0.0, 0, []
    with GateWatch(model) as watch:
        for batch in batches:
            tokens = batch.to(device)
            logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
            targets = tokens[:, 1:].flatten()
            nats += functional.cross_entropy(
                logits.flatten(0, 1).float(), targets, reduction="sum"
            ).item()
            num_tokens += targets.numel()
            routings.append(routing_metrics(watch.answers()))
    nats_per_token = nats / num_tokens
    return Judgement(
        num_tokens=num_tokens,
        cross_entropy_nats=nats_per_token,
        bits_per_byte=bits_per_byte(nats_per_token, text),
        diversity_fraction=fmean(fmean(each.diversity_fractions) for each in routings),
        step_diversity_fraction=fmean(fmean(each.step_diversity_fractions) for each in routings),
        load_imbalance=fmean(fmean(each.load_imbalances) for each in routings),
        router_entropy_nats=fmean(fmean(each.entropies_nats) for each in routings),
    )


def bits_per_byte(nats_per_token: float, text: TokenText) -> float:
    """Return a cross-entropy per token of a text as bits per byte of it."""
    return nats_per_token / math.log(2) * len(text.tokens) / text.num_bytes
