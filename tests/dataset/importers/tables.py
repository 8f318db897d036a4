"""Small tables in the layouts that importers read, with made-up numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path


def moe_row(**changes: Any) -> dict[str, Any]:
    """Return a row of a moe_perf table."""
    row = {
        "framework": "VLLM",
        "version": "0.24.0",
        "device": "NVIDIA H200",
        "op_name": "moe",
        "kernel_source": "vllm_fused_moe",
        "moe_dtype": "bfloat16",
        "num_tokens": 16,
        "hidden_size": 4096,
        "inter_size": 14336,
        "topk": 2,
        "num_experts": 8,
        "moe_tp_size": 1,
        "moe_ep_size": 1,
        "distribution": "power_law_1.01",
        "latency": 0.731,
    }
    return row | changes


def write_moe_perf(path: Path, *rows: dict[str, Any]) -> Path:
    """Write rows as a moe_perf table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def make_package(folder: Path) -> Path:
    """Write a package like aiconfigurator-core with two systems, and return where to import it."""
    package = folder / "aiconfigurator_core"
    data = package / "systems" / "data"
    (package).mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')\n")
    write_moe_perf(data / "h200_sxm/moe/vllm/0.24.0/moe_perf.parquet", moe_row())
    powered = moe_row(device="NVIDIA B200", power=512.0, power_limit=1000.0)
    write_moe_perf(data / "b200_sxm/moe/trtllm/1.3.0/moe_perf.parquet", powered)
    write_moe_perf(
        data / "h200_sxm/comm/nccl/2.29.2/nccl_perf.parquet",
        {
            "framework": "TRTLLM",
            "version": "2.29.2",
            "device": "NVIDIA H200",
            "op_name": "alltoall",
            "kernel_source": "NCCL",
            "nccl_dtype": "half",
            "num_gpus": 4,
            "message_size": 256,
            "latency": 0.005,
        },
    )
    write_moe_perf(
        data / "h200_sxm/comm/vllm/0.24.0/moe_a2a_perf.parquet",
        {
            "framework": "vLLM",
            "version": "0.24.0",
            "device": "NVIDIA H200",
            "op_name": "moe_a2a",
            "kernel_source": "deepep",
            "comm_backend": "deepep_ll",
            "phase": "combine",
            "comm_dtype": "default",
            "ep_size": 8,
            "node_num": 1,
            "hidden_size": 3072,
            "topk": 8,
            "num_experts": 256,
            "num_tokens": 16,
            "sms": 20,
            "transmit_us": 40.0,
            "notify_us": 2.0,
            "latency": 42.0,
        },
    )
    return folder
