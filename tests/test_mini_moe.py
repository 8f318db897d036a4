"""Claims about the model in data/mini-moe, its text and its trace."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moeprof.gate.description import rule_of
from moeprof.gate.site import find_gates
from moeprof.huggingface.load import LoadedModel, load_model
from moeprof.resources import data_folder
from moeprof.trace.reader import Trace, open_trace

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = data_folder() / "mini-moe"
MOST_BYTES = 12e6
NUM_REQUESTS = 12  # of the trace's, run again
# Half of float16's last digit at 8, and what sums in another order may differ by.
LOGIT_TOLERANCE = 0.004 + 1e-3
COLUMNS = ("request", "token_id", "experts", "weights", "logits")


@pytest.fixture(scope="module")
def mini() -> LoadedModel:
    return load_model(FOLDER)


@pytest.fixture(scope="module")
def trace() -> Trace:
    return open_trace(FOLDER / "trace.parquet")


@pytest.fixture(scope="module")
def own_logits(mini: LoadedModel, trace: Trace) -> list[NDArray[np.float32]]:
    """The model's gate logits over the trace's first requests, one array per layer."""
    found: list[list[torch.Tensor]] = []
    for site in find_gates(mini.model):
        kept: list[torch.Tensor] = []
        site.gate.register_forward_hook(lambda _, __, output, kept=kept: kept.append(output[0]))
        found.append(kept)
    rows = trace.read_layer(trace.metadata.layers[0], COLUMNS)
    with torch.inference_mode():
        for request in range(NUM_REQUESTS):
            mini.model(torch.from_numpy(rows.token_id[rows.request == request]).long()[None])
    return [torch.cat(kept).numpy() for kept in found]


def test_the_trace_holds_the_models_own_logits(
    trace: Trace, own_logits: list[NDArray[np.float32]]
) -> None:
    for layer, own in zip(trace.metadata.layers, own_logits, strict=True):
        traced = trace.read_layer(layer, ("logits",)).logits[: len(own)].astype(np.float32)

        assert np.abs(traced - own).max() <= LOGIT_TOLERANCE * max(1, np.abs(own).max() / 8)
        assert np.abs(own).std() > 0.1


def test_the_trace_s_experts_are_those_of_the_logits_but_for_ties(
    trace: Trace, own_logits: list[NDArray[np.float32]]
) -> None:
    top_k = trace.metadata.top_k
    for layer, own in zip(trace.metadata.layers, own_logits, strict=True):
        traced = np.sort(trace.read_layer(layer, ("experts",)).experts[: len(own)], axis=1)
        ranked = np.sort(own, axis=1)
        clear = ranked[:, -top_k] - ranked[:, -top_k - 1] > 1e-4
        chosen = np.sort(np.argsort(own, axis=1)[:, -top_k:], axis=1)

        assert clear.mean() > 0.99
        assert (traced[clear] == chosen[clear]).all()


def test_routing_can_be_done_again_from_the_trace_alone(trace: Trace) -> None:
    for layer, described in zip(trace.metadata.layers, trace.metadata.gate_rules, strict=True):
        rows = trace.read_layer(layer, COLUMNS)
        again = rule_of(described).choose(torch.from_numpy(rows.logits.astype(np.float32)))

        same = np.sort(again.experts.numpy(), axis=1) == np.sort(rows.experts, axis=1)
        assert same.mean() > 0.99


def test_the_trace_is_of_the_text_that_ships(trace: Trace) -> None:
    text = (FOLDER / "held-out.txt").read_bytes()
    (source,) = trace.metadata.files
    tokens = trace.read_layer(trace.metadata.layers[0], ("token_id",)).token_id

    assert source.sha256 == sha256(text).hexdigest()
    assert bytes(tokens.astype(np.uint8)) == text[: len(tokens)]


def test_model_and_trace_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= MOST_BYTES


def test_the_model_beats_a_3_gram_of_bytes_and_uses_its_experts() -> None:
    figures: dict[str, Any] = json.loads((FOLDER / "train.json").read_text(encoding="utf-8"))

    assert figures["test"]["bits_per_byte"] < 0.9 * figures["trigram_bits_per_byte"]
    assert figures["test"]["diversity_fraction"] >= 0.9


def test_the_model_is_as_good_on_the_text_that_ships_as_its_figures_say(mini: LoadedModel) -> None:
    figures = json.loads((FOLDER / "train.json").read_text(encoding="utf-8"))
    text = np.frombuffer((FOLDER / "held-out.txt").read_bytes(), dtype=np.uint8)
    tokens = torch.from_numpy(text.reshape(-1, 256)[:64].astype(np.int64))
    with torch.inference_mode():
        logits = mini.model(tokens).logits[:, :-1]
    nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    assert nats.item() / np.log(2) == pytest.approx(figures["test"]["bits_per_byte"], rel=0.1)
