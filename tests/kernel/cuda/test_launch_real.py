from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import pytest
import torch
from cuda_examples import COPIES, use_examples

from moeprof.kernel.cuda.cache import build
from moeprof.kernel.cuda.launch import Loaded, architecture_of, load
from moeprof.kernel.cuda.occupancy import blocks_per_multiprocessor
from moeprof.kernel.cuda.usage import usage_of

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    use_examples(tmp_path, monkeypatch)
    architecture = architecture_of(0)
    assert architecture is not None
    return load(build(COPIES, architecture), 0)


def arguments(data: Tensor, count: int) -> tuple[ctypes.c_void_p, ctypes.c_int32]:
    return ctypes.c_void_p(data.data_ptr()), ctypes.c_int32(count)


def test_our_machine_code_runs_on_torchs_memory_and_stream(loaded: Loaded) -> None:
    data = torch.arange(512, dtype=torch.float32, device="cuda:0") + 1
    expected = data.clone()
    expected[:100] = 2 * data[:400:4]
    expected[100:128] = 0  # threads past the count copy zeros

    stream = torch.cuda.current_stream().cuda_stream
    loaded.launch(1, arguments(data, 100), stream=stream)

    assert torch.equal(data, expected)


def test_a_graph_holds_a_launch_together_and_alone(loaded: Loaded) -> None:
    data = torch.ones(512, device="cuda:0")
    alone = loaded.prepare(1, arguments(data, 128))
    together = loaded.prepare(1, arguments(data, 128), cooperative=True)
    alone(torch.cuda.current_stream().cuda_stream)
    torch.cuda.synchronize()

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for launch in (alone, together):
            launch(torch.cuda.current_stream().cuda_stream)
    data.fill_(1)
    graph.replay()

    # Thread 0 doubles its own value in each launch.
    assert float(data[0]) == 4


def test_cuda_holds_as_many_blocks_as_we_reckon(loaded: Loaded) -> None:
    built = loaded.built

    assert loaded.num_multiprocessors == (torch.cuda.get_device_properties(0).multi_processor_count)
    assert loaded.max_blocks_per_multiprocessor == blocks_per_multiprocessor(
        COPIES, usage_of(built), built.architecture
    )
    too_many = loaded.num_multiprocessors * loaded.max_blocks_per_multiprocessor + 1
    data = torch.ones(512, device="cuda:0")
    stream = torch.cuda.current_stream().cuda_stream
    with pytest.raises(RuntimeError, match="CUDA error: too many blocks"):
        loaded.launch(too_many, arguments(data, 0), stream=stream, cooperative=True)
