"""moeprof's own kernels on a real GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from moeprof.device.registry import open_device
from moeprof.kernel.check.kernel import check_kernel
from moeprof.kernel.check.quick import quick_check
from moeprof.kernel.cuda.expert_kernels import variant_kernels
from moeprof.kernel.opening import open_kernel
from moeprof.kernel.protocol import choice_of
from moeprof.workload.layer import MoELayer
from moeprof.workload.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.gpu

OURS = ("stream", "wgmma", "moeprof", "triton")


@pytest.fixture
def device() -> Iterator[Any]:
    opened = open_device("cuda:0", seed=0)
    yield opened
    opened.close()


def workload(rows: tuple[int, ...], dtype: str = "bf16", batch_size: int = 64) -> Workload:
    layer = MoELayer("l", 2048, 768, len(rows), 2)
    return Workload("m", layer, dtype, dtype, batch_size, "given", 0, "none", 1, 0, 1, rows)


def bound(name: str, device: Any, given: Workload) -> Any:
    kernel = open_kernel(name, device)
    if reason := kernel.refusal(given, device.identity):
        pytest.skip(reason)
    return kernel.bind(given, device, l2_state="warm", seed=1)


@pytest.mark.parametrize("name", OURS)
def test_every_kernel_agrees_with_float64(device: Any, name: str) -> None:
    kernel = open_kernel(name, device)
    if reason := kernel.refusal(workload((1, 2)), device.identity):
        pytest.skip(reason)  # a kernel that cannot be built or bound goes on, and fails
    verdict = check_kernel(kernel, device)

    assert verdict.fault is None
    assert verdict.passed, verdict.refused


def test_every_variant_agrees_with_float64(device: Any) -> None:
    _, kernels = variant_kernels(device.identity)
    faults = {}
    for name, kernel in kernels.items():
        dtype = "fp8_block" if "fp8" in name else "bf16"
        verdict = quick_check(kernel, device, workload((1, 0, 3, 70, 0, 9, 16, 33), dtype))
        faults[name] = verdict.refused or verdict.fault

    assert {name: fault for name, fault in faults.items() if fault} == {}


@pytest.mark.parametrize("name", OURS)
def test_launches_do_not_differ_in_a_bit(device: Any, name: str) -> None:
    work = bound(name, device, workload((1, 0, 3, 40, 0, 9, 5, 2)))
    work.launch(0)
    first = work.output(0).clone()
    for _ in range(50):
        work.launch(0)
        assert torch.equal(work.output(0), first), choice_of(work)


@pytest.mark.parametrize("name", OURS)
def test_a_launch_neither_waits_nor_allocates(device: Any, name: str) -> None:
    work = bound(name, device, workload((1, 0, 3, 0, 0, 2, 0, 2)))
    work.launch(0)
    torch.cuda.synchronize()
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    torch.cuda.set_sync_debug_mode("error")
    try:
        work.launch(0)
    finally:
        torch.cuda.set_sync_debug_mode("default")

    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


@pytest.mark.parametrize("name", OURS)
def test_a_captured_graph_sees_other_row_counts(device: Any, name: str) -> None:
    counts, others = (4, 4, 0, 0, 0, 0, 0, 0), (1, 3, 0, 2, 0, 0, 0, 2)
    work = bound(name, device, workload(counts, batch_size=8))
    expected = bound(name, device, workload(others, batch_size=8))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        work.launch(0)
        with torch.cuda.graph(graph, stream=stream):
            work.launch(0)
    torch.cuda.synchronize()
    work.buffers.row_ends.copy_(expected.buffers.row_ends)
    graph.replay()
    expected.launch(0)
    torch.cuda.synchronize()

    assert torch.equal(work.output(0), expected.output(0))
