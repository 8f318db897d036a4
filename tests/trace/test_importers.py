"""Claims about recordings of SGLang and vLLM that become traces."""

from __future__ import annotations

import base64
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trace_examples import choose

from moeprof.errors import TraceError
from moeprof.trace.counts import open_counts
from moeprof.trace.importers.sglang import import_sglang
from moeprof.trace.importers.vllm import import_vllm
from moeprof.trace.reader import Trace, open_trace

NUM_EXPERTS = 16
TOP_K = 4
NUM_LAYERS = 5  # the first one dense
NUM_COLUMNS = 8  # of the recorder's array, whatever the model's top_k
SLOTS = np.stack([np.roll(np.arange(24) % NUM_EXPERTS, layer) for layer in range(NUM_LAYERS)])


def record(draw: np.random.Generator, num_tokens: int, *, padding: int = 0) -> dict[str, Any]:
    """Return a record of `per_token` mode, with the experts themselves under `truth`."""
    experts = choose(draw, num_tokens, NUM_EXPERTS, TOP_K, NUM_LAYERS - 1)
    ids = np.full((NUM_LAYERS, num_tokens + padding, NUM_COLUMNS), -1, dtype=np.int32)
    for layer in range(1, NUM_LAYERS):
        slot_of = [np.flatnonzero(SLOTS[layer] == expert)[-1] for expert in range(NUM_EXPERTS)]
        ids[layer, :num_tokens, :TOP_K] = np.array(slot_of)[experts[layer - 1]]
    return {
        "forward_pass_id": int(draw.integers(1000)),
        "rank": 0,
        "gatherer_key": "primary",
        "input_ids": draw.integers(256, size=num_tokens + padding).tolist(),
        "positions": list(range(num_tokens + padding)),
        "extend_seq_lens": None,
        "forward_mode": 2,
        "topk_ids_of_layer": torch.from_numpy(ids),
        "misc_objects": [],
        "truth": experts,
    }


def save(path: Path, records: list[dict[str, Any]], *, with_map: bool = True) -> Path:
    told = [{name: each[name] for name in each if name != "truth"} for each in records]
    content: dict[str, Any] = {"records": told}
    if with_map:
        content["last_physical_to_logical_map"] = torch.from_numpy(SLOTS)
    torch.save(content, path)
    return path


def sglang(file: Path, **numbers: int) -> Trace:
    out = file.with_suffix(".parquet")
    options = {"num_experts": None, "top_k": None} | numbers
    assert import_sglang(file, out, **options) == "routing"
    return open_trace(out)


def vllm(file: Path, **numbers: int) -> Trace:
    out = file.with_suffix(".parquet")
    options = {"num_experts": NUM_EXPERTS, "top_k": None} | numbers
    import_vllm(file, out, **options)
    return open_trace(out)


def test_a_per_token_recording_keeps_every_choice(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    prefill = record(draw, 30) | {"extend_seq_lens": [10, 20], "forward_mode": 1}
    records = [prefill, record(draw, 3), record(draw, 5, padding=3)]
    trace = sglang(save(tmp_path / "recording.pt", records))
    rows = trace.read_layer(2, ("experts", "position", "token_id", "step", "request"))

    assert trace.metadata.source == "sglang"
    assert trace.metadata.num_experts == NUM_EXPERTS
    assert trace.metadata.top_k == TOP_K
    assert trace.metadata.layers == (1, 2, 3, 4)
    assert trace.metadata.num_tokens_left_out == 3
    assert any("rebalanced" in note for note in trace.metadata.notes)
    assert trace.num_tokens == 38
    assert (rows.experts == np.concatenate([each["truth"][1] for each in records])).all()
    assert rows.position.tolist() == [*range(30), *range(3), *range(5)]
    assert rows.token_id.tolist()[-5:] == records[2]["input_ids"][:5]
    assert np.unique(rows.step).tolist() == sorted(each["forward_pass_id"] for each in records)
    assert rows.request is None


def test_requests_of_a_prefill_are_told_apart(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    first = record(draw, 30) | {"extend_seq_lens": [10, 20], "forward_mode": 1}
    second = record(draw, 4) | {"extend_seq_lens": [4], "forward_mode": 1}

    rows = sglang(save(tmp_path / "recording.pt", [first, second])).read_layer(1, ("request",))

    assert rows.request.tolist() == [0] * 10 + [1] * 20 + [2] * 4


def test_dummy_passes_are_flagged_and_kept(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    warm_up = record(draw, 64)
    ids = warm_up["topk_ids_of_layer"]
    ids[:] = ids[:, :1].clone()
    trace = sglang(save(tmp_path / "recording.pt", [warm_up, *(record(draw, 6) for _ in range(4))]))

    rows = trace.read_layer(1, ("is_dummy",))

    assert rows.is_dummy.tolist() == [True] * 64 + [False] * 24


def test_experts_in_slots_need_a_map_or_their_number(tmp_path: Path) -> None:
    file = save(tmp_path / "recording.pt", [record(np.random.default_rng(0), 30)], with_map=False)

    with pytest.raises(TraceError, match="has no last_physical_to_logical_map"):
        sglang(file)
    with pytest.raises(TraceError, match=r"has an expert that does not lie in 0\.\.15"):
        sglang(file, num_experts=NUM_EXPERTS)
    assert sglang(file, num_experts=24).metadata.notes == ()


def test_numbers_that_contradict_the_file_are_refused(tmp_path: Path) -> None:
    file = save(tmp_path / "recording.pt", [record(np.random.default_rng(0), 30)])

    with pytest.raises(TraceError, match="its map is of 16 experts, --num-experts says 24"):
        sglang(file, num_experts=24)
    with pytest.raises(TraceError, match="its tokens have 4 experts, --top-k says 8"):
        sglang(file, top_k=8)
    assert sglang(file, num_experts=16, top_k=4).num_tokens == 30


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda ids: ids[1, 3].__setitem__(2, -1), "layer 1: token 3 has no expert in one"),
        (lambda ids: ids[2, 3].__setitem__(2, int(ids[2, 3, 1])), "token 3 chooses one expert twi"),
        (lambda ids: ids[2, 3].__setitem__(2, 24), "does not fit ids of 5 layers up to 24"),
    ],
)
def test_choices_that_cannot_be_are_refused(tmp_path: Path, spoil: Any, told: str) -> None:
    spoilt = record(np.random.default_rng(0), 30)
    spoil(spoilt["topk_ids_of_layer"])

    with pytest.raises(TraceError, match=told):
        sglang(save(tmp_path / "recording.pt", [spoilt]))


def test_fields_of_another_length_are_refused(tmp_path: Path) -> None:
    spoilt = record(np.random.default_rng(0), 30) | {"positions": [1, 2]}

    with pytest.raises(TraceError, match=r"record 0: positions must have 30 whole numbers"):
        sglang(save(tmp_path / "recording.pt", [spoilt]))


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("topk_ids_of_layer", "ids", "topk_ids_of_layer must be whole numbers, found str"),
        ("topk_ids_of_layer", [[1], [1, 2]], "topk_ids_of_layer must be whole numbers, found list"),
        ("topk_ids_of_layer", torch.ones(2, 3, 4), "whole numbers, found .* of torch.float32"),
        ("topk_ids_of_layer", torch.ones(2, 3, dtype=torch.int32), "must be .num_layers, num_tok"),
        ("input_ids", {}, "input_ids must be whole numbers, found dict"),
        ("input_ids", [2**40] * 30, r"input_ids must lie in .* found 1099511627776"),
        ("forward_pass_id", None, "forward_pass_id must be whole numbers, found NoneType"),
        ("forward_pass_id", [1, 2], "forward_pass_id must be one number"),
        ("forward_pass_id", 2**40, "forward_pass_id must lie in"),
        ("extend_seq_lens", 30, "extend_seq_lens must be lengths, found 30"),
        ("extend_seq_lens", [-5, 35], "extend_seq_lens must be lengths"),
    ],
)
def test_a_field_that_is_no_table_of_whole_numbers_is_named(
    tmp_path: Path, field: str, value: Any, told: str
) -> None:
    spoilt = record(np.random.default_rng(0), 30) | {field: value}

    with pytest.raises(TraceError, match=rf"recording\.pt: record 0: .*{told}"):
        sglang(save(tmp_path / "recording.pt", [spoilt]))


def test_lengths_of_no_prefill_are_no_fault(tmp_path: Path) -> None:
    decode = record(np.random.default_rng(0), 30) | {"extend_seq_lens": []}

    assert sglang(save(tmp_path / "recording.pt", [decode])).num_tokens == 30


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"logical_count": None}, "logical_count must be whole numbers, found NoneType"),
        ({"logical_count": torch.ones(2, 3, 4, dtype=torch.bool)}, "found .* of torch.bool"),
        ({"logical_count": torch.ones(4, dtype=torch.int64)}, "must be .num_steps, num_layers"),
        ({"logical_count": torch.full((2, 3, 4), 2**32)}, r"must lie in .* found 4294967296"),
        ({"records": [{"global_physical_count": "x"}]}, "record 0: global_physical_count must be"),
        ({"records": [{"global_physical_count": torch.ones(3, 4)}]}, "found .* of torch.float32"),
        (
            {
                "records": [{"global_physical_count": torch.ones(3, 4, dtype=torch.int64)}],
                "last_physical_to_logical_map": torch.full((3, 4), 2**40),
            },
            "must have at most 32768 experts, got 1099511627777",
        ),
    ],
)
def test_counts_that_cannot_be_kept_are_refused(
    tmp_path: Path, content: dict[str, Any], told: str
) -> None:
    file = tmp_path / "recording.pt"
    torch.save(content, file)

    with pytest.raises(TraceError, match=told):
        import_sglang(file, tmp_path / "counts.parquet", num_experts=None, top_k=2)


def test_a_stat_recording_becomes_counts(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = np.zeros((10, NUM_LAYERS, NUM_EXPERTS), dtype=np.int32)
    for step in range(6):  # the ring buffer's last four were never filled
        for layer, ids in enumerate(choose(draw, 9, NUM_EXPERTS, TOP_K, NUM_LAYERS - 1), start=1):
            rows[step, layer] = np.bincount(ids.ravel(), minlength=NUM_EXPERTS)
    file, out = tmp_path / "recording.pt", tmp_path / "counts.parquet"
    torch.save({"rank": 0, "logical_count": torch.from_numpy(rows)}, file)

    kind = import_sglang(file, out, num_experts=None, top_k=TOP_K)
    counts = open_counts(out)

    assert kind == "expert-counts"
    assert counts.metadata.layers == (1, 2, 3, 4)
    assert (counts.rows == rows[:6, 1:]).all()
    assert not counts.is_dummy.any()
    with pytest.raises(TraceError, match="counts do not tell how many experts a token uses"):
        import_sglang(file, out, num_experts=None, top_k=None)
    with pytest.raises(TraceError, match="36 rows, which --top-k 5 does not divide"):
        import_sglang(file, out, num_experts=None, top_k=5)


def test_a_per_pass_recording_counts_experts_and_not_slots(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    per_slot = draw.integers(9, size=(3, NUM_LAYERS, 24)) * TOP_K
    per_slot[:, 0] = 0
    file, out = tmp_path / "recording.pt", tmp_path / "counts.parquet"
    records = [
        {"forward_pass_id": 7 + each, "rank": 0, "global_physical_count": torch.from_numpy(table)}
        for each, table in enumerate(per_slot)
    ]
    torch.save({"records": records, "last_physical_to_logical_map": torch.from_numpy(SLOTS)}, file)

    import_sglang(file, out, num_experts=None, top_k=TOP_K)
    counts = open_counts(out)

    assert counts.step.tolist() == [7, 8, 9]
    for layer in range(1, NUM_LAYERS):
        for expert in range(NUM_EXPERTS):
            expected = per_slot[:, layer, SLOTS[layer] == expert].sum(axis=1)
            assert (counts.rows[:, layer - 1, expert] == expected).all()


class Hostile:
    """A pickle of it makes a folder when it is loaded as a program."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.mkdir, (self.path,))


def dump(value: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(value, protocol=2))


@pytest.mark.parametrize("write", [torch.save, dump])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path, write: Any) -> None:
    file, made = tmp_path / "recording.pt", tmp_path / "made"
    write({"records": [Hostile(made)]}, file)

    with pytest.raises(TraceError, match=r"recording\.pt: refused, because it holds more than"):
        sglang(file)

    assert not made.exists()


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 cut", b"text", b"\x80\x02}q\x00(X\x01", b"(lp0\nI"]
)
def test_a_damaged_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "recording.pt"
    file.write_bytes(content)

    with pytest.raises(TraceError, match=r"recording\.pt: "):
        sglang(file)


def test_an_unknown_layout_is_named(tmp_path: Path) -> None:
    file = tmp_path / "recording.pt"
    torch.save({"weights": torch.zeros(2)}, file)

    with pytest.raises(TraceError, match=r"must have records with .* found weights"):
        sglang(file)
    with pytest.raises(TraceError, match="cannot be read: No such file"):
        sglang(tmp_path / "none.pt")


def request_of(num_tokens: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Return `routed_experts` of a request, [num_tokens, num_layers, top_k]."""
    draw = np.random.default_rng(seed)
    return choose(draw, num_tokens, NUM_EXPERTS, TOP_K, 3).transpose(1, 0, 2)


def test_an_array_is_one_request(tmp_path: Path) -> None:
    file = tmp_path / "routed.npy"
    np.save(file, request_of(20))

    trace = vllm(file)
    rows = trace.read_layer(2, ("experts", "request", "position", "token_id", "step"))

    assert trace.metadata.layers == (0, 1, 2)
    assert trace.metadata.top_k == TOP_K
    assert (rows.experts == request_of(20)[:, 2]).all()
    assert rows.request.tolist() == [0] * 20
    assert rows.position.tolist() == list(range(20))
    assert rows.token_id is None
    assert rows.step is None


def test_arrays_of_a_npz_file_are_requests_in_order(tmp_path: Path) -> None:
    file = tmp_path / "routed.npz"
    np.savez(file, second=request_of(5, 1), first=request_of(3, 2))

    rows = vllm(file).read_layer(0, ("experts", "request"))

    assert rows.request.tolist() == [0] * 5 + [1] * 3
    assert (rows.experts[:5] == request_of(5, 1)[:, 0]).all()


def test_tokens_that_were_not_captured_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "routed.npy"
    array = request_of(20)
    array[:6] = 0  # a prefix cache held them
    np.save(file, array)

    trace = vllm(file)

    assert trace.metadata.num_tokens_left_out == 6
    assert trace.read_layer(0, ("position",)).position.tolist() == list(range(6, 20))


def encoded(array: np.ndarray[Any, np.dtype[np.int16]]) -> str:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return base64.b64encode(buffer.getvalue()).decode()


def test_responses_of_the_server_are_read_in_every_form(tmp_path: Path) -> None:
    whole = request_of(9)
    ids = {"prompt_token_ids": [1, 2, 3, 4], "choices": [{"token_ids": [5, 6, 7, 8, 9, 10]}]}
    in_one = ids | {"choices": [ids["choices"][0] | {"routed_experts": encoded(whole)}]}
    cached = ids | {"choices": [ids["choices"][0] | {"routed_experts": encoded(whole[3:])}]}
    apart = {
        "prompt_routed_experts": whole[:4].tolist(),
        "choices": [{"routed_experts": whole[4:].tolist()}] * 2,
    }
    bare = {"routed_experts": whole.tolist()}
    file = tmp_path / "routed.jsonl"
    lines = [json.dumps(each) for each in (in_one, cached, apart, bare)]
    file.write_text("\n".join(lines) + "\n\n", encoding="utf-8")

    trace = vllm(file)
    rows = trace.read_layer(1, ("experts", "request", "position"))

    expected = [whole, whole[3:], whole, whole, whole]
    assert (rows.experts == np.concatenate(expected)[:, 1]).all()
    assert np.bincount(rows.request).tolist() == [9, 6, 9, 9, 9]
    assert rows.position.tolist()[:15] == [*range(9), *range(3, 9)]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2: must be JSON"),
        ("[1]", "line 2: must be an object"),
        ('{"choices": [{"text": ""}]}', "choice 0 has no routed_experts, found text"),
        ('{"routed_experts": "###"}', "must be nested lists of one shape, or a"),
        ('{"routed_experts": [[1], [1, 2]]}', "must be nested lists of one shape, or a"),
        ('{"routed_experts": [[1, 2]]}', "must be .* of whole numbers, found"),
        ('{"routed_experts": [[[0.5]]]}', "of whole numbers, found .* of float64"),
        ('{"routed_experts": 5}', "routed_experts must be nested lists of one shape, .* found 5"),
        ('{"routed_experts": "UEsDBHp6"}', "must be nested lists of one shape, or a"),
        ('{"routed_experts": [[[1]]], "prompt_routed_experts": 5}', "prompt_routed_experts must"),
        (
            '{"routed_experts": [[[1]]], "prompt_token_ids": 5, "token_ids": [1]}',
            "must be lists of whole numbers",
        ),
        (
            '{"routed_experts": [[[1]]], "prompt_token_ids": [1099511627776], "token_ids": [1]}',
            "must be lists of whole numbers",
        ),
        ("[" * 100_000, "line 2: must be JSON"),
        (
            '{"routed_experts": [[[1]], [[2]]], "prompt_token_ids": [], "token_ids": [1]}',
            "experts of 2 tokens and ids of 1",
        ),
    ],
)
def test_a_line_that_is_no_request_is_named(tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "routed.jsonl"
    file.write_text(f'{{"routed_experts": [[[1]]]}}\n{line}\n', encoding="utf-8")

    with pytest.raises(TraceError, match=told):
        vllm(file)


def test_a_file_that_does_not_tell_the_experts_asks_for_them(tmp_path: Path) -> None:
    file = tmp_path / "routed.npy"
    np.save(file, request_of(200))

    with pytest.raises(TraceError, match=r"does not tell how many experts .* chosen is 15"):
        import_vllm(file, tmp_path / "out.parquet", num_experts=None, top_k=None)
    with pytest.raises(TraceError, match=r"has an expert that does not lie in 0\.\.7"):
        vllm(file, num_experts=8)


def test_an_array_of_objects_is_refused_and_not_run(tmp_path: Path) -> None:
    file, made = tmp_path / "routed.npy", tmp_path / "made"
    np.save(file, np.array([Hostile(made)], dtype=object), allow_pickle=True)

    with pytest.raises(TraceError, match="must hold NumPy arrays of whole numbers"):
        vllm(file)

    assert not made.exists()


def test_an_expert_of_more_than_32_bits_is_out_of_range_and_not_another_one(tmp_path: Path) -> None:
    file = tmp_path / "routed.npy"
    np.save(file, request_of(20).astype(np.int64) + 2**32)

    with pytest.raises(TraceError, match=r"has an expert that does not lie in 0\.\.15"):
        vllm(file)
    with pytest.raises(TraceError, match="must have at most 32768 experts, got 40000"):
        vllm(file, num_experts=40_000)


def test_arrays_in_base64_are_not_an_archive(tmp_path: Path) -> None:
    buffer, file = io.BytesIO(), tmp_path / "routed.jsonl"
    np.savez(buffer, request_of(3))
    line = {"routed_experts": base64.b64encode(buffer.getvalue()).decode()}
    file.write_text(json.dumps(line), encoding="utf-8")

    with pytest.raises(TraceError, match=r"or a \.npy file in base64"):
        vllm(file)


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"must end in \.npy, \.npz or \.jsonl, got '\.txt'"):
        vllm(tmp_path / "routed.txt")
