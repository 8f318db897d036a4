"""The number formats that expert weights and activations are held in."""

from __future__ import annotations

from typing import Final

# Bytes per element with what the format keeps beside it: a scale per block of elements.
BYTES_PER_ELEMENT: Final[dict[str, float]] = {
    "fp32": 4,
    "bf16": 2,
    "fp16": 2,
    "fp8": 1,  # one scale per tensor, which is nothing
    # DeepSeek-V3, arXiv 2412.19437 section 3.3: an fp32 scale per block of 128 x 128 weights.
    "fp8_block": 1 + 4 / (128 * 128),
    # OCP Microscaling Formats v1.0, section 5: blocks of 32 with a scale of 8 bits (E8M0).
    "mxfp8": 1 + 1 / 32,
    "mxfp4": 1 / 2 + 1 / 32,
    # NVIDIA's NVFP4 (Blackwell): blocks of 16 with an fp8 scale, and one fp32 per tensor.
    "nvfp4": 1 / 2 + 1 / 16,
    # GPTQ and AWQ as they are published: groups of 128 with a 16-bit scale, symmetric.
    "int4": 1 / 2 + 2 / 128,
}


def activation_dtype(weight_dtype: str) -> str:
    """Return the format that activations are multiplied in where weights have this one.

    Block-scaled fp8 weights meet rows quantised to fp8, as in the tables of aiconfigurator.
    """
    return "fp8" if weight_dtype == "fp8_block" else weight_dtype
