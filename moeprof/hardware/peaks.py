"""Which of a GPU's peaks bounds a product of weights and activations in given number formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from moeprof.hardware.gpu import GPU

# From the narrowest to the widest: Tensor Cores multiply in the wider of the two formats, because
# narrower weights are brought to the activations' format first (W4A16, W4A8).
_PEAKS: Final = {
    "nvfp4": "fp4",
    "mxfp4": "fp4",
    "fp8": "fp8",
    "fp8_block": "fp8",
    "mxfp8": "fp8",
    "bf16": "bf16",
    "fp16": "fp16",
    "fp32": "fp32",
}
_WIDTH: Final = ("fp4", "fp8", "bf16", "fp16", "fp32")
_WEIGHTS_ONLY: Final = frozenset({"int4"})  # no Tensor Core of ours multiplies it
_FALLBACK: Final = "bf16"


def peak_format(card: GPU, weight_dtype: str, activation_dtype: str | None = None) -> str:
    """Return the key of `card.peak_flops_per_second` that bounds this product.

    The wider of the two formats counts; without `activation_dtype` it is that of the weights.
    A format that the card cannot multiply (fp8 on Ampere, fp4 on Hopper) is dequantised to bf16,
    and so are weights that are held in int4, unless the activations are fp8.

    Raises:
        KeyError: a format is not in `workload.dtypes`.

    """
    formats = [each for each in (weight_dtype, activation_dtype) if each is not None]
    multiplied = [_PEAKS[each] for each in formats if each not in _WEIGHTS_ONLY]
    widest = max(multiplied, key=_WIDTH.index, default=_FALLBACK)
    return widest if widest in card.peak_flops_per_second else _FALLBACK
