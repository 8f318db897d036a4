"""Claims about the commands that record and import traces, run as commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from trace_examples import choose
from transformers import MixtralConfig, MixtralForCausalLM

from moeprof.errors import CheckpointError, ExitCode, TextError, UsageError
from moeprof.huggingface.manifest import Manifest, write_manifest
from moeprof.report.traced import show_import
from moeprof.report.traced_model import show_trace
from moeprof.trace.reader import open_trace
from moeprof.trace.record import RecordSettings

README = Path(__file__).resolve().parents[1] / "README.md"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    config = MixtralConfig(
        vocab_size=256,
        hidden_size=32,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=8,
        max_position_embeddings=256,
    )
    MixtralForCausalLM(config).save_pretrained(folder)
    write_manifest(folder, Manifest(name="tiny-bytes", tokens="bytes"))
    return folder


def moeprof(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "moeprof", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def trace_json(
    folder: Path, out: Path, settings: RecordSettings, capsys: pytest.CaptureFixture[str]
) -> dict[str, object]:
    show_trace(folder, [README], out, settings, device="cpu", dtype="fp32", as_json=True)
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_a_model_is_traced_from_the_command_line(model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "trace.parquet"
    text = ("--text", README, "--text", README, "--tokens-max", "1000", "--window", "100")
    done = moeprof("trace", model_folder, *text, "--out", out, "--device", "cpu", "--json")

    assert done.returncode == ExitCode.DONE, done.stderr
    assert "1,000 of 1,000 tokens recorded" in done.stderr
    document = json.loads(done.stdout)
    assert document["num_tokens"] == 1000
    assert document["num_requests"] == 10
    assert document["metadata"]["model"] == "tiny-bytes"
    assert document["file_bytes"] == out.stat().st_size
    assert open_trace(out).read_layer(1).experts.shape == (1000, 2)


def test_two_texts_are_traced_one_after_the_other(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("first text", encoding="utf-8")
    second.write_text("the second", encoding="utf-8")
    out = tmp_path / "trace.parquet"
    settings = RecordSettings(window=7)
    show_trace(
        model_folder, [first, second], out, settings, device="cpu", dtype="bf16", as_json=True
    )
    rows = open_trace(out).read_layer(0, ("token_id", "request"))

    assert bytes(rows.token_id.tolist()) == b"first textthe second"
    assert np.bincount(rows.request).tolist() == [7, 3, 7, 3]
    assert [each["name"] for each in json.loads(capsys.readouterr().out)["metadata"]["files"]] == [
        "a.txt",
        "b.txt",
    ]


def test_the_same_command_writes_the_same_file(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = RecordSettings(window=128, num_tokens_max=2000, top_only=True)
    for name in ("a", "b"):
        assert not trace_json(model_folder, tmp_path / name, settings, capsys)["has_logits"]

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_empty_text_and_a_wrong_folder_are_one_clear_error_each(
    model_folder: Path, tmp_path: Path
) -> None:
    empty, out = tmp_path / "empty.txt", tmp_path / "trace.parquet"
    empty.touch()
    settings = RecordSettings()

    with pytest.raises(TextError, match="must not be empty"):
        show_trace(model_folder, [empty], out, settings, device="cpu", dtype="fp32", as_json=True)
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        show_trace(tmp_path, [README], out, settings, device="cpu", dtype="fp32", as_json=True)
    with pytest.raises(UsageError, match="--dtype must be one of fp32, bf16, stored, got 'fp8'"):
        show_trace(model_folder, [README], out, settings, device="cpu", dtype="fp8", as_json=True)
    with pytest.raises(UsageError, match=r"--window must lie in 1\.\.256"):
        show_trace(model_folder, [README], out, settings, device="cpu", dtype="fp32", as_json=True)
    assert list(tmp_path.iterdir()) == [empty]


def test_a_recording_of_vllm_is_imported_from_the_command_line(tmp_path: Path) -> None:
    file, out = tmp_path / "routed.npy", tmp_path / "trace.parquet"
    np.save(file, choose(np.random.default_rng(0), 40, 16, 4, 3).transpose(1, 0, 2))
    without = moeprof("import", "vllm", file, "--out", out)
    done = moeprof("import", "vllm", file, "--out", out, "--num-experts", "16")

    assert without.returncode == ExitCode.INPUT
    assert without.stderr.startswith("error: ")
    assert "hint: Give --num-experts." in without.stderr
    assert done.returncode == ExitCode.DONE, done.stderr
    assert "3 of 16 experts, 4 per token" in done.stdout
    assert "0 tokens (0.0 %) of warm-up or profiling, flagged" in done.stdout
    assert "not told by vllm" in done.stdout


def test_an_import_is_told_as_one_document(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "routed.npy"
    np.save(file, choose(np.random.default_rng(0), 40, 16, 4, 3).transpose(1, 0, 2))

    show_import("vllm", file, tmp_path / "trace.parquet", num_experts=16, top_k=4, as_json=True)

    document = json.loads(capsys.readouterr().out)
    assert document["metadata"]["source"] == "vllm"
    assert document["num_steps"] == 40
