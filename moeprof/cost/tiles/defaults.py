"""The configurations that engines fall back on where no file is tuned.

Sources: `get_default_config` of `fused_moe.py` in vLLM 0.14.0, 0.19.0, 0.22.0 and 0.24.0, and of
`fused_moe_triton_config.py` in SGLang 0.5.14. Triton's own defaults stand where an engine gives
none: four warps, three stages.
"""

from __future__ import annotations

from typing import Final

from moeprof.cost.tiles.tile import Tile

# The rule that vLLM had until some version between these two, and that SGLang still has.
_FIRST_VLLM_BY_TOKENS: Final = (0, 19)
_FEW_TOKENS: Final = Tile(16, 32, 64, 4, 3)
_MORE_TOKENS: Final = Tile(64, 64, 32, 4, 3)
_BLOCK_SCALED: Final = Tile(64, 128, 128, 4, 3)

_ROWS_BY_TOKENS: Final = ((32, 16), (96, 32), (512, 64))
_MOST_ROWS: Final = 128

# SGLang, fp8 with one scale per tensor: by whether a block may have 128 KiB of shared memory.
_LITTLE_SHARED_BYTES: Final = 128 * 1024
_SGLANG_FP8: Final = (Tile(64, 128, 128, 4, 4), Tile(128, 256, 128, 8, 4))
_SGLANG_FP8_LITTLE: Final = (Tile(32, 64, 256, 4, 4), Tile(64, 128, 256, 4, 2))


def vllm_default(
    version: tuple[int, ...], weight_dtype: str, *, num_experts: int, num_tokens: int
) -> Tile:
    """Return vLLM's fallback for a rank's `num_experts` and the step's `num_tokens`."""
    if version < _FIRST_VLLM_BY_TOKENS:
        return _by_experts(weight_dtype, num_experts, num_tokens)
    if weight_dtype == "fp8_block":
        return _BLOCK_SCALED._replace(num_rows=16 if num_tokens <= 64 else 64)  # noqa: PLR2004
    rows = next((rows for upto, rows in _ROWS_BY_TOKENS if num_tokens <= upto), _MOST_ROWS)
    few = num_tokens <= 64  # noqa: PLR2004
    return Tile(
        num_rows=rows,
        num_columns=64 if few else 128,
        depth=128 if few or weight_dtype == "fp8" else 64,
        num_warps=4 if num_tokens <= 128 else 8,  # noqa: PLR2004
        num_stages=4 if num_tokens <= 32 else 3,  # noqa: PLR2004
    )


def sglang_default(
    weight_dtype: str, *, num_experts: int, num_tokens: int, shared_bytes: float
) -> Tile:
    """Return SGLang's fallback on a GPU whose SM has so many bytes of shared memory."""
    if weight_dtype == "fp8":
        tiles = _SGLANG_FP8_LITTLE if shared_bytes < _LITTLE_SHARED_BYTES else _SGLANG_FP8
        return tiles[num_tokens > num_experts]
    return _by_experts(weight_dtype, num_experts, num_tokens)


def _by_experts(weight_dtype: str, num_experts: int, num_tokens: int) -> Tile:
    if weight_dtype == "fp8_block":
        return _BLOCK_SCALED
    return _FEW_TOKENS if num_tokens <= num_experts else _MORE_TOKENS
