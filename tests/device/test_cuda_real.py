from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch

from moeprof.device.registry import open_device
from moeprof.errors import KernelUnsupported
from moeprof.kernel.opening import open_kernel
from moeprof.kernel.reference import MAX_RELATIVE_ERROR, relative_error
from moeprof.workload.layer import MoELayer
from moeprof.workload.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


@pytest.fixture
def device() -> Iterator[Any]:
    opened = open_device("cuda:0", seed=0)
    yield opened
    opened.close()


def workload(dtype: str = "bf16") -> Workload:
    layer = MoELayer(name="l", hidden_size=2048, expert_size=768, num_experts=16, top_k=2)
    rows = (1, 0, 2, 3, 0, 0, 1, 1) + (0,) * 8
    return Workload("m", layer, dtype, dtype, 4, "given", 0, "none", 1, 0, 1, rows)


@pytest.mark.parametrize("kernel", ["torch-loop", "torch-grouped"])
def test_events_agree_with_the_wall_clock(device: Any, kernel: str) -> None:
    opened = open_kernel(kernel, device)
    if reason := opened.refusal(workload(), device.identity):
        pytest.skip(reason)
    program = device.prepare(opened.bind(workload(), device, l2_state="cold", seed=0))
    latency_seconds = sorted(program.sample() for _ in range(20))[10]

    start = time.perf_counter()
    launches = program.run(0.5)
    wall_seconds = (time.perf_counter() - start) / launches
    program.close()

    assert latency_seconds == pytest.approx(wall_seconds, rel=0.1)


@pytest.mark.parametrize("kernel", ["torch-loop", "torch-grouped"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_kernels_agree_with_float64(device: Any, kernel: str, dtype: str) -> None:
    opened = open_kernel(kernel, device)
    if reason := opened.refusal(workload(dtype), device.identity):
        pytest.skip(reason)
    work = opened.bind(workload(dtype), device, l2_state="cold", seed=0)

    assert relative_error(work, work.num_buffer_sets - 1) < MAX_RELATIVE_ERROR[dtype]


def test_a_replayed_graph_computes_what_a_launch_computes(device: Any) -> None:
    work = open_kernel("torch-loop", device).bind(workload(), device, l2_state="cold", seed=0)
    relative_error(work, 0)
    expected = work.output(0).clone()
    program = device.prepare(work)
    work.buffers.outputs.fill_(math.nan)

    program.sample()

    assert torch.equal(work.output(0), expected)
    program.close()


def test_a_kernel_that_waits_is_refused_and_the_next_one_works(device: Any) -> None:
    work = open_kernel("torch-loop", device).bind(workload(), device, l2_state="warm", seed=0)
    launch = work.launch
    work.launch = lambda buffer_set: (launch(buffer_set), work.output(0).sum().item())

    with pytest.raises(KernelUnsupported):
        device.prepare(work)

    work.launch = launch
    assert device.prepare(work).sample() > 0


def test_every_sensor_is_a_value_or_a_reason(device: Any) -> None:
    state = device.state()

    for name in ("die_celsius", "memory_celsius", "sm_clock_hertz", "watts", "clock_events"):
        assert (getattr(state, name) is None) == (name in state.absent)
    assert state.die_celsius is None or 0 < state.die_celsius < 120
    assert state.watts is None or 5 < state.watts < 2000


def test_the_energy_counter_grows_under_load(device: Any) -> None:
    if device.energy_counter is None:
        pytest.skip(device.energy_absent_reason)
    work = open_kernel("torch-loop", device).bind(workload(), device, l2_state="cold", seed=0)
    program = device.prepare(work)
    before = device.energy_counter.read()
    program.run(1.0)

    assert 10 < device.energy_counter.read() - before < 3000
