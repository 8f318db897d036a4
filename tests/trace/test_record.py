"""Claims about traces that are recorded from live models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tiny_models import FAMILIES, NUM_EXPERTS, TOP_K, VOCABULARY, tiny_model

from moeprof.errors import TextError, TraceError, UsageError
from moeprof.gate.description import rule_of
from moeprof.gate.site import find_gates
from moeprof.huggingface.load import LoadedModel
from moeprof.router.patch import patch
from moeprof.router.top_k import TopK
from moeprof.trace.metadata import SourceFile
from moeprof.trace.reader import open_trace
from moeprof.trace.record import RecordSettings, record_trace
from moeprof.trace.recorder import GateRecorder
from moeprof.trace.text import Text, text_of

if TYPE_CHECKING:
    from pathlib import Path

TEXT = Text(SourceFile("text.txt", "00", 90), bytes(each * 37 % VOCABULARY for each in range(90)))
COLUMNS = ("experts", "weights", "logits", "request", "position", "token_id", "is_dummy")


def loaded(family: str = "mixtral", model: Any = None) -> LoadedModel:
    return LoadedModel(
        model=model or tiny_model(family),
        name="tiny",
        family=family,
        tokens="bytes",
        encode=list,
        num_vocabulary=VOCABULARY,
        manifest=None,
    )


def record(
    path: Path, model: LoadedModel, text: Text = TEXT, **settings: Any
) -> list[tuple[int, int]]:
    told: list[tuple[int, int]] = []
    record_trace(
        model,
        [text],
        path,
        RecordSettings(**{"window": 20, "batch": 2} | settings),
        on_tokens=lambda num_done, num_tokens: told.append((num_done, num_tokens)),
    )
    return told


@pytest.mark.parametrize("family", FAMILIES)
def test_a_trace_has_the_models_own_choices(tmp_path: Path, family: str) -> None:
    path = tmp_path / "trace.parquet"
    model = loaded(family)
    told = record(path, model)
    trace = open_trace(path)
    sites = find_gates(model.model)

    assert told == [(40, 90), (80, 90), (90, 90)]
    assert trace.num_tokens == 90
    assert (trace.metadata.family, trace.metadata.model) == (family, "tiny")
    assert (trace.metadata.num_experts, trace.metadata.top_k) == (NUM_EXPERTS, TOP_K)
    assert trace.metadata.layers == tuple(site.layer for site in sites)
    answers: list[Any] = []

    def keep(gate: Any, inputs: Any, output: Any) -> None:
        answers.append(output)

    handles = [site.gate.register_forward_hook(keep) for site in sites]
    with torch.inference_mode():
        model.model(input_ids=torch.tensor([list(TEXT.content[40:60])]))
    for handle in handles:
        handle.remove()
    for site, (logits, weights, experts) in zip(sites, answers, strict=True):
        rows = trace.read_layer(site.layer, COLUMNS)
        third = slice(40, 60)
        assert (rows.experts[third] == experts.reshape(20, -1).numpy()).all()
        assert np.allclose(rows.weights[third], weights.reshape(20, -1), atol=1e-6)
        assert np.allclose(rows.logits[third], logits.reshape(20, -1), atol=2e-3)
        assert rows.request.tolist() == [each for each in range(5) for _ in range(20)][:90]
        assert rows.position.tolist() == [*range(20)] * 4 + [*range(10)]
        assert rows.token_id.tolist() == list(TEXT.content)
        assert not rows.is_dummy.any()


@pytest.mark.parametrize("family", FAMILIES)
def test_routing_can_be_done_again_from_the_trace_alone(tmp_path: Path, family: str) -> None:
    path = tmp_path / "trace.parquet"
    record(path, loaded(family))
    trace = open_trace(path)

    assert trace.metadata.gate_rules is not None
    for layer, description in zip(trace.metadata.layers, trace.metadata.gate_rules, strict=True):
        rows = trace.read_layer(layer, ("experts", "logits"))
        again = rule_of(description).choose(torch.from_numpy(rows.logits.astype(np.float32)))
        same = np.sort(again.experts.numpy(), axis=1) == np.sort(rows.experts, axis=1)
        assert same.mean() > 0.98  # float16 may break a tie otherwise


def test_ties_are_recorded_as_the_model_broke_them(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    model = tiny_model("mixtral")
    with torch.no_grad():
        for site in find_gates(model):
            site.gate.weight.zero_()
    with patch(model, _Reversed()):
        record(path, loaded(model=model))

    experts = open_trace(path).read_layer(0).experts

    assert (experts == [NUM_EXPERTS - 1, NUM_EXPERTS - 2]).all()


class _Reversed(TopK):
    """Chooses the last experts, whatever the logits."""

    def route(self, logits: torch.Tensor, context: Any) -> Any:
        routing = super().route(logits, context)
        last = torch.arange(NUM_EXPERTS - 1, NUM_EXPERTS - 1 - TOP_K, -1)
        return type(routing)(last.expand(len(logits), TOP_K), routing.weights)


def test_top_only_leaves_the_logits_out(tmp_path: Path) -> None:
    record(tmp_path / "all.parquet", loaded())
    record(tmp_path / "top.parquet", loaded(), top_only=True)
    every, top = open_trace(tmp_path / "all.parquet"), open_trace(tmp_path / "top.parquet")

    assert "logits" in every.columns
    assert "logits" not in top.columns
    assert (every.read_layer(1).experts == top.read_layer(1).experts).all()


def test_recording_stops_at_the_tokens_asked_for(tmp_path: Path) -> None:
    record(tmp_path / "trace.parquet", loaded(), num_tokens_max=33)

    assert open_trace(tmp_path / "trace.parquet").num_tokens == 33


def test_requests_of_one_batch_do_not_touch_each_other(tmp_path: Path) -> None:
    record(tmp_path / "one.parquet", loaded(), batch=1)
    record(tmp_path / "all.parquet", loaded(), batch=8)
    one, every = (open_trace(tmp_path / f"{name}.parquet") for name in ("one", "all"))

    for layer in one.metadata.layers:
        alone, together = one.read_layer(layer, COLUMNS), every.read_layer(layer, COLUMNS)
        assert (alone.request == together.request).all()
        assert np.allclose(alone.logits, together.logits, atol=2e-3)


def test_logits_beyond_float16_are_held_to_its_limit_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    model = tiny_model("mixtral")
    with torch.no_grad():
        find_gates(model)[1].gate.weight[3] *= 1e12
    record(path, loaded(model=model))
    trace = open_trace(path)
    logits = trace.read_layer(1, ("logits",)).logits

    assert trace.metadata.num_logits_at_limit == (np.abs(logits) == 65504).sum()
    assert trace.metadata.num_logits_at_limit > 80
    assert np.isfinite(logits).all()


def test_a_nan_ends_the_recording_and_leaves_no_file(tmp_path: Path) -> None:
    model = tiny_model("mixtral")
    with torch.no_grad():
        find_gates(model)[1].gate.weight[3] = torch.nan

    with pytest.raises(TraceError, match="layer 1: the logit of expert 3 is NaN for token 0"):
        record(tmp_path / "trace.parquet", loaded(model=model))

    assert list(tmp_path.iterdir()) == []


def test_a_nan_is_noticed_without_the_logits_too(tmp_path: Path) -> None:
    model = tiny_model("mixtral")
    with torch.no_grad():
        find_gates(model)[1].gate.weight[3] = torch.nan

    with pytest.raises(TraceError, match="layer 1: a weight is NaN for token 0 of the batch"):
        record(tmp_path / "trace.parquet", loaded(model=model), top_only=True)

    assert list(tmp_path.iterdir()) == []


def test_a_gate_that_runs_twice_is_refused() -> None:
    model = tiny_model("mixtral")
    ids = torch.tensor([[1, 2, 3]])

    with GateRecorder(find_gates(model), with_logits=True) as recorder, torch.inference_mode():
        model(input_ids=ids)
        model(input_ids=ids)
        with pytest.raises(TraceError, match=r"layer 0: its gate must run once .* ran 2 times"):
            recorder.take()


def test_a_recorder_leaves_no_hook_behind() -> None:
    model = tiny_model("mixtral")
    sites = find_gates(model)

    with GateRecorder(sites, with_logits=True):
        held = [len(site.gate._forward_hooks) for site in sites]

    assert held == [1, 1]
    assert [len(site.gate._forward_hooks) for site in sites] == [0, 0]


def test_a_window_beyond_the_models_positions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--window must lie in 1\.\.512, .* got 513"):
        record(tmp_path / "trace.parquet", loaded(), window=513)


def test_a_text_without_tokens_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.touch()

    with pytest.raises(TextError, match=r"empty\.txt: must not be empty"):
        text_of(empty)
    with pytest.raises(TextError, match=r"text\.txt: must give at least one token"):
        record(tmp_path / "trace.parquet", loaded(), text=Text(TEXT.source, b""))
