"""The writing of an imported recording as a trace, its dummy passes flagged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from moeprof.trace.dummy import dummy_passes, pass_sign
from moeprof.trace.importers.choices import counts_of
from moeprof.trace.tokens import RoutedTokens
from moeprof.trace.writer import writing_trace

if TYPE_CHECKING:
    from pathlib import Path

    from moeprof.trace.importers.choices import Choices
    from moeprof.trace.metadata import TraceMetadata


def write_choices(
    out: Path, choices: Choices, metadata: TraceMetadata, *, are_requests: bool
) -> None:
    """Write choices as a trace; `are_requests`: the passes are whole requests.

    Raises TraceError: there is no token, or the file cannot be written.
    """
    signs = [
        pass_sign(counts_of(each.experts, metadata.num_experts), choices.top_k)
        for each in choices.passes
    ]
    flags = dummy_passes(signs, are_requests=are_requests)
    described = replace(metadata, layers=choices.layers, top_k=choices.top_k)
    with writing_trace(out, described, weights=False, logits=False) as writer:
        writer.num_tokens_left_out = choices.num_tokens_left_out
        for each, is_dummy in zip(choices.passes, flags, strict=True):
            num_tokens = each.experts.shape[1]
            step = None if each.step is None else np.full(num_tokens, each.step, dtype=np.int32)
            writer.write(
                RoutedTokens(
                    experts=each.experts,
                    request=each.request,
                    position=each.position,
                    token_id=each.token_id,
                    step=step,
                    is_dummy=np.full(num_tokens, is_dummy),
                )
            )
