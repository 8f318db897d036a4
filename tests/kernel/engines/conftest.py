"""Workloads, a device that says it is a GPU, and what an engine's kernel should compute."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from moeprof.device.protocol import DeviceIdentity
from moeprof.kernel import bank
from moeprof.kernel.engines import importing
from moeprof.kernel.reference import quantised_rows
from moeprof.workload.layer import MoELayer
from moeprof.workload.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable

ROUTINGS = {
    "random": (1, 3, 0, 2, 5, 0, 1, 4),
    "empty experts": (0, 0, 2, 0, 0, 0, 0, 1),
    "hot": (1, 40, 1, 1, 1, 1, 1, 1),
    "all on one": (0, 0, 0, 0, 0, 17, 0, 0),
    "full": (2, 2, 2, 2, 0, 0, 0, 0),
}
PARTIAL = (2, 0, 1, 3)


def a_workload(
    rows: Any,
    dtype: str = "bf16",
    *,
    sizes: tuple[int, int] = (256, 128),
    top_k: int = 2,
    ep: tuple[int, int] = (1, 0),
    batch_size: int = 4,
) -> Workload:
    layer = MoELayer(
        name="l",
        hidden_size=sizes[0],
        expert_size=sizes[1],
        num_experts=len(rows) * ep[0],
        top_k=top_k,
    )
    ep_size, ep_rank = ep
    return Workload(
        "m", layer, dtype, dtype, batch_size, "given", 0, "none", ep_size, ep_rank, 1, rows
    )


def an_identity(kind: str = "cuda", capability: str = "9.0") -> DeviceIdentity:
    return DeviceIdentity(
        kind=kind, name=f"test {kind}", uuid=f"{kind}-test", versions={"capability": capability}
    )


def a_device(kind: str = "cuda", *, capability: str = "9.0", free: int = 10**10) -> Any:
    return SimpleNamespace(
        identity=an_identity(kind, capability),
        torch_device=torch.device("cpu"),
        l2_bytes=200_000,
        free_bytes=lambda: free,
        translating_errors=lambda _doing: nullcontext(),
    )


def experts_by_hand(
    tokens: torch.Tensor,
    weights: tuple[torch.Tensor, torch.Tensor],
    scales: tuple[torch.Tensor | None, torch.Tensor | None],
    slots: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Compute SwiGLU experts, gate first, from slots whose experts outside the pool are absent."""
    gate_up, down = (full_weights(pool, scale) for pool, scale in zip(weights, scales, strict=True))
    quantised = scales[0] is not None
    output = torch.zeros(tokens.shape, dtype=torch.float64)
    ids, slot_weights = slots
    for token, row in enumerate(ids.tolist()):
        for slot, expert in enumerate(row):
            if not 0 <= expert < gate_up.shape[0]:
                continue
            x = tokens[token : token + 1]
            x = quantised_rows(x) if quantised else x.double()
            gate, up = (x @ gate_up[expert].t()).chunk(2, dim=1)
            hidden = torch.nn.functional.silu(gate) * up
            if quantised:
                hidden = quantised_rows(hidden.to(torch.bfloat16))
            output[token] += float(slot_weights[token, slot]) * (hidden @ down[expert].t())[0]
    return output.to(tokens.dtype)


def full_weights(pool: torch.Tensor, scales: torch.Tensor | None) -> torch.Tensor:
    if scales is None:
        return pool.double()
    spread = scales.double().repeat_interleave(128, 1).repeat_interleave(128, 2)
    return pool.double() * spread


def swap_halves(pool: torch.Tensor) -> torch.Tensor:
    return torch.cat(pool.chunk(2, dim=1)[::-1], dim=1)


@pytest.fixture(autouse=True)
def _forgetful() -> Any:
    bank.clear_banks()
    importing.missing.cache_clear()
    yield
    importing.missing.cache_clear()


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a package into this process: `install("vllm", "0.33.0", {"vllm.config": {...}})`."""

    def installing(distribution: str, version: str, modules: dict[str, dict[str, Any]]) -> None:
        for name, attributes in modules.items():
            parts = name.split(".")
            for depth in range(1, len(parts) + 1):
                path = ".".join(parts[:depth])
                if path not in sys.modules:
                    package = ModuleType(path)
                    package.__path__ = []
                    monkeypatch.setitem(sys.modules, path, package)
            for attribute, value in attributes.items():
                setattr(sys.modules[name], attribute, value)

        def version_of(wanted: str) -> str:
            if wanted == distribution:
                return version
            raise PackageNotFoundError(wanted)

        monkeypatch.setattr(importing, "version", version_of)

    return installing
