"""From a workload to a launch of a CUDA kernel, which the host shim then runs."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from kernel.cuda.stagewise import workload

from moeprof.device.protocol import DeviceIdentity
from moeprof.errors import KernelUnsupported
from moeprof.kernel import bank
from moeprof.kernel.cuda import expert_kernels, forms, host, stream, wgmma
from moeprof.kernel.cuda.expert_kernels import (
    StreamExperts,
    TunedExperts,
    WgmmaExperts,
    variant_kernels,
)
from moeprof.kernel.cuda.tensor_map import encode_for_host
from moeprof.kernel.cuda.variants import ARCHITECTURES
from moeprof.kernel.reference import MAX_RELATIVE_ERROR, relative_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

needs_compiler = pytest.mark.skipif(host.refusal() is not None, reason=str(host.refusal()))


def identity(capability: str = "9.0") -> DeviceIdentity:
    versions = {"capability": capability}
    return DeviceIdentity(kind="cuda", name="a GPU", uuid="GPU-test", versions=versions)


def device(capability: str = "9.0") -> Any:
    return SimpleNamespace(
        identity=identity(capability),
        torch_device=torch.device("cpu"),
        l2_bytes=250_000,
        free_bytes=lambda: 10**9,
    )


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Puts the host shim in the driver's place; returns what was launched."""
    seen = []

    def load(variant: Any, index: Any) -> Any:
        kernel = host.host_kernel(
            variant.source, variant.entry, defines=variant.defines, headers=variant.headers
        )

        def prepare(grid: int, arguments: Any, *, cooperative: bool) -> Any:
            def launch(stream: int) -> None:
                seen.append((variant.name, grid, cooperative, stream))
                kernel.launch(
                    grid, variant.num_threads, arguments, shared_bytes=variant.shared_bytes
                )

            return launch

        return SimpleNamespace(
            prepare=prepare, num_multiprocessors=2, max_blocks_per_multiprocessor=1
        )

    monkeypatch.setattr(expert_kernels, "load", load)
    monkeypatch.setattr(expert_kernels.cache, "build", lambda variant, architecture: variant)
    monkeypatch.setattr(forms, "encode", encode_for_host)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda where: SimpleNamespace(cuda_stream=77))
    yield seen
    bank.clear_banks()


@needs_compiler
@pytest.mark.parametrize("dtype", ["bf16", "fp8_block"])
@pytest.mark.parametrize("kernel", [StreamExperts, WgmmaExperts, TunedExperts])
def test_bound_work_computes_every_buffer_set(launched: Any, kernel: Any, dtype: str) -> None:
    given = workload((1, 0, 5, 2), dtype, hidden_size=256, expert_size=128, batch_size=8)
    work = kernel().bind(given, device(), l2_state="cold", seed=2)

    assert work.num_buffer_sets > 1
    assert relative_error(work, 0) < MAX_RELATIVE_ERROR[dtype]
    assert relative_error(work, work.num_buffer_sets - 1) < MAX_RELATIVE_ERROR[dtype]
    assert launched[-1] == (work.choice.kernel, 2, True, 77)


def test_the_stream_is_asked_for_at_each_launch(
    launched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if host.refusal() is not None:
        pytest.skip(str(host.refusal()))
    given = workload((1, 2), "bf16", hidden_size=64, expert_size=64)
    work = StreamExperts().bind(given, device("8.0"), l2_state="warm", seed=2)
    work.launch(0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda where: SimpleNamespace(cuda_stream=78))
    work.launch(0)

    assert [stream for *_, stream in launched] == [77, 78]


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        ((1, 8), "stream-bf16-r8-b2"),
        ((9, 1), "stream-bf16-r16-b2"),
        ((64, 1), "stream-bf16-r64-b1"),
        ((65, 1), "wgmma-bf16-r128"),
    ],
)
def test_the_built_in_rule_goes_by_the_fullest_expert(rows: Any, name: str) -> None:
    given = workload(rows, "bf16", hidden_size=64, expert_size=64)

    assert forms.default_name(given, "sm_90a") == name


def test_fp8_on_hopper_goes_to_the_tensor_cores_that_take_it() -> None:
    given = workload((1,), "fp8_block", hidden_size=128, expert_size=128)

    assert forms.default_name(given, "sm_90a") == "wgmma-fp8_block-r16"
    assert forms.default_name(given, "sm_89") == "stream-fp8_block-r8-b1"


def test_more_rows_stay_with_the_streaming_kernel_where_there_is_no_other() -> None:
    given = workload((200,), "bf16", hidden_size=64, expert_size=64)
    odd = workload((200,), "bf16", hidden_size=72, expert_size=64)

    assert forms.default_name(given, "sm_100a") == "stream-bf16-r64-b1"
    assert forms.default_name(odd, "sm_90a") == "stream-bf16-r64-b1"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_rule_names_a_variant_that_is_built(architecture: str) -> None:
    built = forms.forms(architecture)
    for dtype in ("bf16", "fp8_block"):
        for rows in (1, 8, 9, 16, 17, 32, 33, 64, 65, 500):
            given = workload((rows,), dtype, hidden_size=128, expert_size=128)
            assert built[forms.default_name(given, architecture)].refusal(given) is None
            assert forms.default_stream(given, architecture) in built


def table(path: Path, **changed: Any) -> Path:
    entry = {
        "architecture": "sm_90a", "dtype": "bf16", "hidden_size": 64, "expert_size": 64,
        "num_experts": 2, "num_tokens": 4, "variant": "stream-bf16-r64-b1",
        "latency_seconds": 1e-5,
    }  # fmt: skip
    path.write_text(json.dumps({"schema": 1, "note": {}, "entries": [entry | changed]}))
    return path


def test_the_tuned_table_decides_and_is_named(
    launched: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if host.refusal() is not None:
        pytest.skip(str(host.refusal()))
    monkeypatch.setenv("MOEPROF_TUNED", str(table(tmp_path / "mine.json")))
    given = workload((1, 2), "bf16", hidden_size=64, expert_size=64)
    work = TunedExperts().bind(given, device(), l2_state="warm", seed=2)

    assert (work.choice.kernel, work.choice.config_file) == ("stream-bf16-r64-b1", "mine.json")


@pytest.mark.parametrize("variant", ["no-such-variant", "stream-fp8_block-r8-b1"])
def test_an_entry_that_does_not_fit_is_left_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    monkeypatch.setenv("MOEPROF_TUNED", str(table(tmp_path / "mine.json", variant=variant)))
    given = workload((1, 2), "bf16", hidden_size=64, expert_size=64)

    assert expert_kernels._tuned(given, "sm_90a") == ("stream-bf16-r8-b2", None)


@pytest.mark.parametrize(
    ("kernel", "capability", "given", "words"),
    [
        (StreamExperts, "7.5", ((1,), "bf16", 64, 64), "not built for compute capability 7.5"),
        (StreamExperts, "9.0", ((1,), "fp16", 64, 64), "bf16 and fp8_block weights"),
        (StreamExperts, "9.0", ((0,), "bf16", 64, 64), "no rows"),
        (WgmmaExperts, "10.0", ((1,), "bf16", 64, 64), "Hopper's sm_90a, not for sm_100a"),
        (WgmmaExperts, "9.0", ((1,), "bf16", 72, 64), "multiples of 64"),
    ],
)
def test_what_cannot_run_is_refused_with_the_reason(
    kernel: Any, capability: str, given: Any, words: str
) -> None:
    rows, dtype, hidden_size, expert_size = given
    asked = workload(rows, dtype, hidden_size=hidden_size, expert_size=expert_size)

    assert words in str(kernel().refusal(asked, identity(capability)))


def test_without_the_compiler_it_is_refused_and_a_sweep_of_others_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent() -> str:
        raise KernelUnsupported("cuda-core is missing")

    monkeypatch.setattr(expert_kernels, "compiler_version", absent)
    given = workload((1,), "bf16", hidden_size=64, expert_size=64)

    assert StreamExperts().refusal(given, identity()) == "cuda-core is missing"
    assert StreamExperts().versions() == {}


def test_tuning_finds_a_kernel_for_every_variant() -> None:
    architecture, kernels = variant_kernels(identity())
    fp8 = workload((1,), "fp8_block", hidden_size=128, expert_size=128)

    assert architecture == "sm_90a"
    assert len(kernels) == len(stream.settings("sm_90a")) + len(wgmma.settings("sm_90a"))
    assert "for bf16 weights" in str(kernels["stream-bf16-r8-b1"].refusal(fp8, identity()))
    assert kernels["wgmma-fp8_block-r32"].refusal(fp8, identity()) is None
