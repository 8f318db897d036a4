"""What torch calls the number formats that weights and activations are held in."""

from __future__ import annotations

import torch

TORCH_DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    # e4m3; the block scales are tensors of their own.
    "fp8_block": torch.float8_e4m3fn,
}
# What activations arrive and leave in: kernels for fp8 weights quantise them on the way.
ACTIVATION_TORCH_DTYPES = {**TORCH_DTYPES, "fp8_block": torch.bfloat16}
# What torch's own matrix products take.
PLAIN_DTYPES = ("fp32", "bf16", "fp16")
