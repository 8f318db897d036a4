"""Claims about which peak bounds a product of two number formats."""

from __future__ import annotations

import pytest

from moeprof.hardware.catalogue import gpu
from moeprof.hardware.peaks import peak_format
from moeprof.workload.dtypes import BYTES_PER_ELEMENT


@pytest.mark.parametrize(
    ("card", "weights", "activations", "expected"),
    [
        ("b200", "nvfp4", "nvfp4", "fp4"),
        ("b200", "mxfp4", None, "fp4"),
        ("b200", "mxfp4", "mxfp8", "fp8"),
        ("b200", "mxfp4", "bf16", "bf16"),
        ("h200-sxm", "nvfp4", "nvfp4", "bf16"),
        ("h200-sxm", "int4", "fp8", "fp8"),
        ("h200-sxm", "int4", None, "bf16"),
        ("h200-sxm", "fp8_block", "fp8", "fp8"),
        ("a100-sxm-80gb", "fp8", "fp8", "bf16"),
        ("a100-sxm-80gb", "fp16", "fp16", "fp16"),
    ],
)
def test_the_wider_format_bounds_unless_the_card_lacks_it(
    card: str, weights: str, activations: str | None, expected: str
) -> None:
    assert peak_format(gpu(card), weights, activations) == expected


@pytest.mark.parametrize("dtype", BYTES_PER_ELEMENT)
def test_every_number_format_has_a_peak(dtype: str) -> None:
    card = gpu("gb300")

    assert card.peak_flops_per_second[peak_format(card, dtype)] > 0
