from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from moeprof.device.protocol import DeviceIdentity
from moeprof.errors import DeviceOutOfMemory, KernelUnsupported, WorkloadError
from moeprof.kernel.attention import (
    MAX_RELATIVE_ERROR,
    AttentionWorkload,
    allocate_attention,
    reference_attention,
)
from moeprof.kernel.cuda import host, mla_work, read_only_work
from moeprof.kernel.protocol import choice_of

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable

    from moeprof.kernel.cuda.variants import Variant

needs_compiler = pytest.mark.skipif(host.refusal() is not None, reason=str(host.refusal()))
MODULES = (mla_work, read_only_work)


class LoadedOnTheHost:
    """What `load` returns, with the kernel built for the CPU in the place of a GPU's."""

    num_multiprocessors = 3
    max_blocks_per_multiprocessor = 1

    def __init__(self, variant: Variant) -> None:
        self._variant = variant
        self._kernel = host.host_kernel(
            variant.source, variant.entry, defines=variant.defines, headers=variant.headers
        )

    def prepare(self, grid: int, arguments: ctypes.Structure) -> Callable[[int], None]:
        variant = self._variant

        def launch(stream: int) -> None:
            assert stream == 77
            self._kernel.launch(
                grid, variant.num_threads, arguments, shared_bytes=variant.shared_bytes
            )

        return launch


@pytest.fixture
def on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in MODULES:
        monkeypatch.setattr(module, "build", lambda variant, architecture: variant)
        monkeypatch.setattr(module, "load", lambda variant, index: LoadedOnTheHost(variant))
    stream = SimpleNamespace(cuda_stream=77)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)


def device(
    *, kind: str = "cuda", capability: str = "9.0", l2_bytes: int = 60_000, free: int = 10**9
) -> Any:
    return SimpleNamespace(
        identity=DeviceIdentity(kind, "GPU", "GPU-1", versions={"capability": capability}),
        torch_device=torch.device("cpu"),
        l2_bytes=l2_bytes,
        free_bytes=lambda: free,
    )


def workload(
    *, num_heads: int = 16, latent_size: int = 512, page_size: int | None = None
) -> AttentionWorkload:
    return AttentionWorkload(num_heads, latent_size, 64, 2, 70, page_size)


@needs_compiler
@pytest.mark.usefixtures("on_the_host")
@pytest.mark.parametrize("page_size", [None, 32])
def test_every_buffer_set_is_computed_from_its_own_data(page_size: int | None) -> None:
    work = mla_work.bind_mla(workload(page_size=page_size), device(), l2_state="cold", seed=4)

    assert work.num_buffer_sets == 2
    assert work.l2_state == "cold"
    assert choice_of(work).kernel == "mla-decode-h32-t32-s4-x1"
    for buffer_set in (1, 0):
        assert torch.isnan(work.output(buffer_set)).all()
        work.launch(buffer_set)
        exact = reference_attention(work.buffers, buffer_set)
        error = torch.linalg.vector_norm(work.output(buffer_set).double() - exact)
        assert error <= MAX_RELATIVE_ERROR * torch.linalg.vector_norm(exact)
    assert not torch.equal(work.output(0), work.output(1))


@pytest.mark.parametrize(
    ("where", "what", "reason"),
    [
        (device(kind="cpu"), workload(), "run on cuda, not on cpu"),
        (device(capability="7.5"), workload(), "compute capability 7.5"),
        (device(), workload(latent_size=256), "512 and 64, got 256 and 64"),
    ],
    ids=["a CPU", "an old GPU", "another latent size"],
)
def test_what_the_pair_cannot_run_is_refused_with_the_reason(
    where: Any, what: AttentionWorkload, reason: str
) -> None:
    with pytest.raises(KernelUnsupported, match=reason):
        mla_work.bind_mla(what, where, l2_state="cold", seed=0)


def test_what_does_not_fit_is_out_of_memory() -> None:
    with pytest.raises(DeviceOutOfMemory, match="1000 bytes are free"):
        allocate_attention(workload(), device(free=1000), l2_state="warm", seed=0)


def test_impossible_attention_is_refused() -> None:
    with pytest.raises(WorkloadError, match="num_heads must be at least 1, got 0"):
        workload(num_heads=0)


def test_bytes_and_operations_are_those_of_the_definition() -> None:
    deepseek = AttentionWorkload(128, 512, 64, 2, 1000)

    assert deepseek.cache_bytes == 2 * 1000 * 576 * 2
    assert deepseek.activation_bytes == 2 * 128 * (576 + 512) * 2
    assert deepseek.flops == 2 * 2 * 128 * 1000 * (576 + 512)


@needs_compiler
@pytest.mark.usefixtures("on_the_host")
def test_the_read_only_work_reads_every_set_once_and_would_notice_if_not() -> None:
    work = read_only_work.bind_read_only(100_001, device())

    assert work.read_bytes == 100_016
    assert work.num_buffer_sets == 3
    assert work.l2_state == "cold"
    for buffer_set in range(3):
        assert not work.is_right(buffer_set)
        work.launch(buffer_set)
        assert work.is_right(buffer_set)
    work.output(1)[0] ^= 1
    assert not work.is_right(1)


@pytest.mark.parametrize("where", [device(kind="cpu"), device(capability="6.1")])
def test_reading_is_refused_where_the_kernel_cannot_run(where: Any) -> None:
    with pytest.raises(KernelUnsupported, match="read-only: "):
        read_only_work.bind_read_only(16, where)


def test_a_read_that_does_not_fit_is_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_only_work, "build", lambda variant, architecture: variant)
    monkeypatch.setattr(read_only_work, "load", lambda variant, index: None)

    with pytest.raises(DeviceOutOfMemory, match="free on GPU"):
        read_only_work.bind_read_only(10**6, device(free=10**6))
