"""The number formats that expert weights and activations are held in."""

from __future__ import annotations

BYTES_PER_ELEMENT: dict[str, float] = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1}
