from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from moeprof.device.protocol import DeviceIdentity
from moeprof.errors import KernelUnsupported
from moeprof.kernel import triton_work
from moeprof.kernel.reference import MAX_RELATIVE_ERROR
from moeprof.kernel.triton_compile import compile_experts
from moeprof.kernel.triton_tiles import (
    Tile,
    default_tile,
    fitting,
    max_row_blocks,
    power_of_two,
)
from moeprof.kernel.triton_work import TritonExperts
from moeprof.workload.layer import MoELayer
from moeprof.workload.workload import Workload

INTERPRETED = Path(__file__).parent / "triton_interpreted.py"
ROUTINGS = 1_002  # a multiple of the layers
MAX_ERROR = 1e-4
CPU = DeviceIdentity("cpu", "test CPU", "CPU-triton")


def cuda(capability: str) -> DeviceIdentity:
    return DeviceIdentity("cuda", "test GPU", "GPU-triton", versions={"capability": capability})


def workload(dtype: str = "bf16", activations: str | None = None, rows: Any = (1, 0)) -> Workload:
    layer = MoELayer(name="l", hidden_size=64, expert_size=64, num_experts=8, top_k=2)
    taken = activations or dtype
    return Workload("m", layer, dtype, taken, 4, "given", 0, "none", 1, 0, 1, rows)


def interpreted(what: str, count: int = 0) -> dict[str, Any]:
    # Triton reads the variable when it is imported, which another test of this process may have
    # done; and it must not stay set for those that come after.
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-W", "error", INTERPRETED, what, str(count)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout))


@pytest.fixture(scope="module")
def named() -> dict[str, Any]:
    return interpreted("named")


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32", "fp8_block"])
def test_outputs_agree_with_float64_and_were_poisoned(dtype: str, named: dict[str, Any]) -> None:
    cases = {name: case for name, case in named.items() if name.startswith(f"{dtype},")}

    assert len(cases) == 7
    assert all(case["poisoned"] for case in cases.values())
    assert {n: c for n, c in cases.items() if not c["error"] < MAX_RELATIVE_ERROR[dtype]} == {}


def test_the_record_names_the_tile(named: dict[str, Any]) -> None:
    assert named["bf16, hot"]["choice"] == "block 32x64x128, 4 warps, 3 stages"


def test_a_thousand_random_routings_are_within_1e4_before_the_last_rounding() -> None:
    layers = interpreted("random", ROUTINGS)

    assert sum(layer["routings"] for layer in layers.values()) == ROUTINGS
    assert {n: e["hidden"][-1] for n, e in layers.items() if not e["hidden"][-1] < MAX_ERROR} == {}
    assert {
        n: e["outputs"][-1] for n, e in layers.items() if not e["outputs"][-1] < MAX_ERROR
    } == {}


@pytest.mark.parametrize("capability", [(8, 0), (9, 0), (10, 0)])
@pytest.mark.parametrize("dtype", ["bf16", "fp8_block"])
def test_every_gpu_gets_16_byte_copies_and_products_without_spills(
    dtype: str, capability: tuple[int, int], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    first, second, third = compile_experts(dtype, default_tile(dtype, 16, capability), capability)

    for made in (first, second):
        copies = re.findall(r"cp\.async\.c[ag]\.shared\.global[^;]*\], (\w+)", made.ptx)
        assert set(copies) == {"0x10"}
        assert "mma.sync" in made.ptx
    assert [made.stack_bytes for made in (first, second, third)] == [0, 0, 0]
    assert third.shared_bytes == 0


def test_a_tiles_shared_memory_is_no_more_than_counted(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    tile = default_tile("bf16", 256, (9, 0))
    made = compile_experts("bf16", tile, (9, 0))

    assert tile.num_rows == 64
    assert "wgmma.mma_async" in made[1].ptx
    assert made[1].shared_bytes <= tile.shared_bytes("bf16") == 3 * 64 * (64 + 128) * 2


def test_fewer_stages_are_taken_where_shared_memory_is_small() -> None:
    tile = Tile(16, 128, 128, 4, 4)  # 36 KiB a stage

    assert fitting(tile, "bf16", (9, 0)) == tile
    assert fitting(tile, "bf16", (8, 6)).num_stages == 2
    assert fitting(Tile(128, 256, 256, 8, 2), "fp32", (8, 6)).num_stages == 1


@pytest.mark.parametrize(
    ("dtype", "num_tokens", "capability", "tile"),
    [
        ("bf16", 1, (9, 0), Tile(16, 64, 128, 4, 4)),
        ("bf16", 33, (9, 0), Tile(32, 64, 128, 4, 3)),
        ("bf16", 65, (9, 0), Tile(32, 128, 64, 4, 3)),
        ("bf16", 129, (9, 0), Tile(64, 128, 64, 8, 3)),
        ("bf16", 513, (9, 0), Tile(128, 128, 64, 8, 3)),
        ("fp8_block", 64, (9, 0), Tile(16, 128, 128, 4, 3)),
        ("fp8_block", 65, (9, 0), Tile(64, 128, 128, 8, 3)),
        ("fp8_block", 65, (8, 9), Tile(16, 128, 128, 4, 3)),
    ],
)
def test_tiles_are_vllms_fallback(
    dtype: str, num_tokens: int, capability: tuple[int, int], tile: Tile
) -> None:
    assert default_tile(dtype, num_tokens, capability) == tile


def test_the_grid_holds_every_routing_and_no_block_more() -> None:
    def blocks(rows: tuple[int, ...]) -> int:
        return sum(-(-count // 3) for count in rows)

    for num_rows in range(1, 9):
        routings = [
            (a, b, num_rows - a - b) for a in range(num_rows + 1) for b in range(num_rows - a + 1)
        ]
        assert max(map(blocks, routings)) == max_row_blocks(num_rows, 3, 3)


def test_powers_of_two_are_rounded_up_to() -> None:
    assert [power_of_two(count) for count in (1, 2, 3, 128, 129)] == [1, 2, 4, 128, 256]


@pytest.mark.parametrize(
    ("given", "identity", "words"),
    [
        (workload(), CPU, "compiles for cuda, not for cpu"),
        (workload(), cuda("7.5"), "needs compute capability 8.0, this is 7.5"),
        (workload(), DeviceIdentity("cuda", "?", "?"), "this is unknown"),
        (workload("int4"), cuda("9.0"), "not int4"),
        (workload("bf16", "fp16"), cuda("9.0"), "no fp16 activations with bf16 weights"),
        (workload("fp8_block", "fp32"), cuda("9.0"), "no fp32 activations with fp8_block weights"),
        (workload(rows=(0, 0)), cuda("9.0"), "no rows"),
    ],
)
def test_what_it_cannot_run_is_refused_with_the_reason(
    given: Workload, identity: DeviceIdentity, words: str
) -> None:
    reason = TritonExperts().refusal(given, identity)

    assert reason is not None
    assert words in reason


def test_hopper_takes_bf16_and_block_scaled_fp8() -> None:
    for given in (workload(), workload("fp8_block"), workload("fp8_block", "fp8")):
        assert TritonExperts().refusal(given, cuda("9.0")) is None


def test_without_triton_the_remedy_is_named(monkeypatch: Any) -> None:
    monkeypatch.setattr(triton_work, "find_spec", lambda name: None)

    assert "pip install 'moeprof[triton]'" in str(TritonExperts().refusal(workload(), cuda("9.0")))


def test_the_interpreter_is_for_the_cpu_and_a_numpy_that_it_knows(monkeypatch: Any) -> None:
    monkeypatch.setattr(triton_work, "interpreted", lambda: True)
    kernel = TritonExperts()
    monkeypatch.setattr(triton_work, "triton_version", lambda: "3.7.0")

    assert kernel.refusal(workload(), CPU) is None
    assert "TRITON_INTERPRET is set" in str(kernel.refusal(workload(), cuda("9.0")))
    monkeypatch.setattr(triton_work, "triton_version", lambda: "3.6.0")
    monkeypatch.setattr(triton_work.np, "__version__", "2.4.6")
    assert "triton 3.6.0 fails with numpy 2.4.6" in str(kernel.refusal(workload(), CPU))
    monkeypatch.setattr(triton_work.np, "__version__", "2.3.5")
    assert kernel.refusal(workload(), CPU) is None


def test_binding_what_is_refused_raises() -> None:
    device: Any = SimpleNamespace(identity=CPU, torch_device=torch.device("cpu"))

    with pytest.raises(KernelUnsupported, match="triton: Triton compiles for cuda"):
        TritonExperts().bind(workload(), device, l2_state="warm", seed=0)


def test_versions_name_triton() -> None:
    assert set(TritonExperts().versions()) == {"torch", "triton"}


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bf16", "fp8_block"])
@pytest.mark.parametrize("batch", [1, 80])
def test_compiled_outputs_agree_with_float64(dtype: str, batch: int) -> None:
    from moeprof.device.cuda import CudaDevice  # noqa: PLC0415 - needs a GPU
    from moeprof.kernel.reference import relative_error  # noqa: PLC0415

    device = CudaDevice(0)
    layer = MoELayer(name="l", hidden_size=1024, expert_size=448, num_experts=8, top_k=2)
    rows = (batch, 0, 1, 0, batch, 0, 0, 1)
    given = Workload("m", layer, dtype, dtype, batch, "given", 0, "none", 1, 0, 1, rows)
    work: Any = TritonExperts().bind(given, device, l2_state="warm", seed=1)  # type: ignore[arg-type]

    assert work.output(0).isnan().all()
    assert relative_error(work, 0) < MAX_RELATIVE_ERROR[dtype]
