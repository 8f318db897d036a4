"""What the expert kernels are given, as the structure that their sources declare."""

from __future__ import annotations

import ctypes


class ExpertArguments(ctypes.Structure):
    """`ExpertArguments` of `kernels/experts.cuh`; pointers are device addresses.

    tokens bf16 `[num_tokens, hidden_size]`; gate_up `[num_experts, 2 * expert_size, hidden_size]`
    (gate first) and down `[num_experts, hidden_size, expert_size]`, bf16 or e4m3, the latter with
    fp32 scales per 128 x 128 block; row_ends int32 `[num_experts]`; row_tokens int32 and
    row_weights fp32 `[num_rows]`; token_rows int32 `[num_tokens, top_k]`, -1 for none. Written:
    hidden bf16 `[num_rows, expert_size]`, row_outputs fp32 `[num_rows, hidden_size]` (weighted),
    outputs bf16 `[num_tokens, hidden_size]`. `partials` is scratch; `counters` are zero before the
    first launch, and after every launch.
    """

    _fields_ = (
        ("tokens", ctypes.c_void_p),
        ("gate_up", ctypes.c_void_p),
        ("down", ctypes.c_void_p),
        ("gate_up_scales", ctypes.c_void_p),
        ("down_scales", ctypes.c_void_p),
        ("row_ends", ctypes.c_void_p),
        ("row_tokens", ctypes.c_void_p),
        ("row_weights", ctypes.c_void_p),
        ("token_rows", ctypes.c_void_p),
        ("hidden", ctypes.c_void_p),
        ("row_outputs", ctypes.c_void_p),
        ("outputs", ctypes.c_void_p),
        ("partials", ctypes.c_void_p),
        ("counters", ctypes.c_void_p),
        ("num_experts", ctypes.c_int32),
        ("num_tokens", ctypes.c_int32),
        ("top_k", ctypes.c_int32),
        ("hidden_size", ctypes.c_int32),
        ("expert_size", ctypes.c_int32),
        ("num_rows", ctypes.c_int32),
    )
