"""The attention pair compared with float64, over contexts that fill tiles and splits and do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from moeprof.errors import DeviceOutOfMemory, KernelUnsupported
from moeprof.kernel.attention import MAX_RELATIVE_ERROR, AttentionWorkload, reference_attention
from moeprof.kernel.check.verdict import CaseResult, KernelVerdict, verdict_of
from moeprof.kernel.cuda.mla import LATENT_SIZE, ROTARY_SIZE
from moeprof.kernel.cuda.mla_work import bind_mla

if TYPE_CHECKING:
    from moeprof.device.protocol import Device

NAME: Final = "mla"
# Heads, requests, context, page size: DeepSeek-V3's 128 heads, a rank's share of them, and less.
_CASES: Final = (
    (128, 1, 1, None),
    (128, 3, 257, None),
    (128, 2, 1000, 64),
    (16, 5, 100, 16),
    (32, 1, 4097, None),
)
_NUM_LAUNCHES: Final = 2


def check_attention(device: Device, *, seed: int = 0) -> KernelVerdict:
    """Launch the pair twice on every case and compare; nothing that it does is raised."""
    return verdict_of(NAME, tuple(_result(device, each, seed) for each in _CASES))


def _result(device: Device, case: tuple[int, int, int, int | None], seed: int) -> CaseResult:
    num_heads, batch_size, context_length, page_size = case
    workload = AttentionWorkload(
        num_heads=num_heads,
        latent_size=LATENT_SIZE,
        rotary_size=ROTARY_SIZE,
        batch_size=batch_size,
        context_length=context_length,
        page_size=page_size,
    )
    pages = "" if page_size is None else f" in pages of {page_size}"
    error: float | None = None
    fault = refusal = None
    try:
        error = _relative_error(workload, device, seed)
        if not error <= MAX_RELATIVE_ERROR:
            fault = f"relative error {error:.2g} exceeds {MAX_RELATIVE_ERROR:g}"
    except (KernelUnsupported, DeviceOutOfMemory) as reason:
        refusal = reason.message
    except Exception as wrong:  # noqa: BLE001 - a kernel may fail in any way, and that is a finding
        fault = f"{type(wrong).__name__}: {wrong}"
    return CaseResult(
        routing=f"{batch_size} requests of {context_length} tokens{pages}",
        dtype="bf16",
        hidden_size=num_heads,
        expert_size=workload.width,
        rows_per_expert=(),
        bound_fraction=MAX_RELATIVE_ERROR,
        relative_error_fraction=error,
        fault=fault,
        refusal=refusal,
    )


def _relative_error(workload: AttentionWorkload, device: Device, seed: int) -> float:
    """Return the worst relative error of two launches; NaN where an output was not written."""
    work = bind_mla(workload, device, l2_state="warm", seed=seed)
    exact = reference_attention(work.buffers, 0)
    errors = []
    for _ in range(_NUM_LAUNCHES):
        work.output(0).fill_(float("nan"))
        work.launch(0)
        off = torch.linalg.vector_norm(work.output(0).double() - exact)
        errors.append(float(off / torch.linalg.vector_norm(exact)))
    return max(errors, key=lambda each: (each != each, each))  # noqa: PLR0124 - NaN comes last
