"""Fallback tiles, against what the engines' own rules give by hand."""

from __future__ import annotations

import pytest

from moeprof.cost.tiles.defaults import sglang_default, vllm_default
from moeprof.cost.tiles.files import tuned_tile

NEW, OLD = (0, 24), (0, 14)


@pytest.mark.parametrize(
    ("dtype", "tokens", "tile"),
    [
        ("bf16", 32, (16, 64, 128, 4, 4)),
        ("bf16", 33, (32, 64, 128, 4, 3)),
        ("bf16", 64, (32, 64, 128, 4, 3)),
        ("bf16", 65, (32, 128, 64, 4, 3)),
        ("fp8", 97, (64, 128, 128, 4, 3)),
        ("bf16", 129, (64, 128, 64, 8, 3)),
        ("bf16", 513, (128, 128, 64, 8, 3)),
        ("fp8_block", 64, (16, 128, 128, 4, 3)),
        ("fp8_block", 65, (64, 128, 128, 4, 3)),
    ],
)
def test_vllm_s_rule_by_tokens(dtype: str, tokens: int, tile: tuple[int, ...]) -> None:
    assert vllm_default(NEW, dtype, num_experts=8, num_tokens=tokens) == tile


@pytest.mark.parametrize(
    ("dtype", "tokens", "tile"),
    [
        ("bf16", 8, (16, 32, 64, 4, 3)),
        ("bf16", 9, (64, 64, 32, 4, 3)),
        ("fp8_block", 1, (64, 128, 128, 4, 3)),
    ],
)
def test_the_rule_by_experts_was_vllm_s_and_is_sglang_s(
    dtype: str, tokens: int, tile: tuple[int, ...]
) -> None:
    sizes = {"num_experts": 8, "num_tokens": tokens}

    assert vllm_default(OLD, dtype, **sizes) == tile
    assert sglang_default(dtype, **sizes, shared_bytes=228 * 1024) == tile


@pytest.mark.parametrize(
    ("shared_bytes", "tokens", "tile"),
    [
        (228 * 1024, 8, (64, 128, 128, 4, 4)),
        (228 * 1024, 9, (128, 256, 128, 8, 4)),
        (100 * 1024, 8, (32, 64, 256, 4, 4)),
        (100 * 1024, 9, (64, 128, 256, 4, 2)),
    ],
)
def test_sglang_s_fp8_tiles_fit_the_shared_memory(
    shared_bytes: int, tokens: int, tile: tuple[int, ...]
) -> None:
    sizes = {"num_experts": 8, "num_tokens": tokens, "shared_bytes": shared_bytes}

    assert sglang_default("fp8", **sizes) == tile


def test_a_tuned_file_gives_every_size_of_the_tile() -> None:
    # vLLM 0.24.0, E=128,N=768,device_name=NVIDIA_H200.json at 1 and 2 tokens.
    found = [tuned_tile("vllm", ["NVIDIA H200"], "bf16", (128, 768), tokens) for tokens in (1, 2)]

    assert found == [(16, 64, 64, 4, 5), (16, 64, 64, 4, 4)]
