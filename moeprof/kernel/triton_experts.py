"""Gate and up projection, SwiGLU, down projection and combination as three Triton kernels.

Importing this module imports triton, which decides by TRITON_INTERPRET whether it compiles for a
GPU or interprets on the CPU: the variable must be set before anything imports triton.
"""

# Triton's functions are annotated by what is constant at compile time, in capitals, and take their
# pointers and sizes one by one.
# ruff: noqa: ANN001, ANN201, N803, PLR0913, PLR0917
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]

FP8_MAX = tl.constexpr(448.0)
SCALE_BLOCK = tl.constexpr(128)

# What the functions below are given, by name:
#   row_ends int32 [num_experts]; rows are sorted by expert, and row_ends[-1] may be less than the
#       number of rows that the grid was made for.
#   weights [num_experts, rows, columns], contiguous: in DOT_TYPE, or e4m3 with `scales` fp32 per
#       128 x 128. Where DOT_TYPE is not e4m3, e4m3 arrives as uint8 and is decoded.
#   DOT_TYPE: what tl.dot multiplies. In the interpreter fp32: there its bf16 is silently wrong.
#   EXPERTS: num_experts rounded up to a power of two.


@triton.jit
def row_block(row_ends, num_experts, BLOCK_ROWS: tl.constexpr, EXPERTS: tl.constexpr):
    """Return the expert of block program_id(0), its first row, and where the expert's rows end.

    Blocks are dealt to the experts in order, as vLLM's moe_align_block_size does in a launch of its
    own. Here every program adds up the few row counts for itself: a microsecond that the programs
    beside it hide, where a launch more would cost each step two. No block: first row and end are 0.
    """
    block = tl.program_id(0)
    experts = tl.arange(0, EXPERTS)
    there = experts < num_experts
    ends = tl.load(row_ends + experts, mask=there, other=0)
    starts = tl.load(row_ends + experts - 1, mask=there & (experts > 0), other=0)
    num_blocks = (ends - starts + BLOCK_ROWS - 1) // BLOCK_ROWS
    block_ends = tl.cumsum(num_blocks, 0)
    expert = tl.sum((block_ends <= block).to(tl.int32), 0)
    mine = experts == expert
    first = tl.sum(tl.where(mine, starts + (block - block_ends + num_blocks) * BLOCK_ROWS, 0), 0)
    return expert, first, tl.sum(tl.where(mine, ends, 0), 0)


@triton.jit
def e4m3(values, DOT_TYPE: tl.constexpr):
    """Round fp32 to e4m3, to nearest even and at most 448, and hold it in DOT_TYPE."""
    if tl.float8e4nv == DOT_TYPE:
        return values.to(tl.float8e4nv)
    # Adding 2^20 times the power of two below (2^-6 for e4m3's subnormals), and taking it away
    # again, leaves three bits after the leading one.
    sizes = tl.minimum(tl.abs(values), FP8_MAX)
    exponents = tl.maximum(sizes.to(tl.int32, bitcast=True) >> 23, 121)
    steps = ((exponents + 20) << 23).to(tl.float32, bitcast=True)
    rounded = (sizes + steps) - steps
    return tl.where(values < 0, -rounded, rounded).to(DOT_TYPE)


@triton.jit
def quantised(rows, DOT_TYPE: tl.constexpr):
    """Return rows [num_rows, 128] as e4m3, and the fp32 scale of each row."""
    values = rows.to(tl.float32)
    greatest = tl.max(tl.abs(values), 1)
    # Triton's own division is a bit off here and there, and then one value of a thousand falls on
    # the neighbouring e4m3.
    maxima = tl.full(greatest.shape, FP8_MAX, tl.float32)
    to_fp8 = tl.div_rn(maxima, tl.where(greatest > 0, greatest, 1.0))
    return e4m3(values * to_fp8[:, None], DOT_TYPE), greatest * (1.0 / FP8_MAX)


@triton.jit
def operand(weights, DOT_TYPE: tl.constexpr):
    """Return weights in DOT_TYPE, decoded from e4m3's bits where they arrive as uint8."""
    if weights.dtype == tl.uint8:
        # Exponent and mantissa in fp16's places are 2^-8 of the value, subnormals included.
        bits = weights.to(tl.uint16)
        halves = (((bits & 0x80) << 8) | ((bits & 0x7F) << 7)).to(tl.float16, bitcast=True)
        return (halves * 256.0).to(DOT_TYPE)
    return weights.to(DOT_TYPE)


@triton.jit
def as_stored(values, pointers, INTERPRETED: tl.constexpr):
    """Return fp32 values in the type that the pointers point to."""
    if INTERPRETED and pointers.dtype.element_ty == tl.bfloat16:
        # The interpreter loses the carry when it rounds to bf16: here it has nothing to round.
        bits = values.to(tl.int32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000
        values = bits.to(tl.float32, bitcast=True)
    return values.to(pointers.dtype.element_ty)


@triton.jit
def gate_up_swiglu(
    tokens,
    weights,
    scales,
    row_ends,
    row_tokens,
    hidden,
    num_experts,
    hidden_size,
    expert_size,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    BLOCK_DEPTH: tl.constexpr,
    EXPERTS: tl.constexpr,
    DOT_TYPE: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Write a block of hidden [num_rows, expert_size]: silu(gate) * up of the rows' tokens.

    Grid: (row blocks, ceil(expert_size / BLOCK_COLUMNS)); weights hold gate, then up. With scales,
    BLOCK_DEPTH is 128.
    """
    expert, first, end = row_block(row_ends, num_experts, BLOCK_ROWS, EXPERTS)
    if first >= end:
        return
    rows = first + tl.arange(0, BLOCK_ROWS)
    columns = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    # Past the end the last row and column are read again: what comes of it is not stored.
    from_tokens = tl.load(row_tokens + tl.minimum(rows, end - 1)).to(tl.int64)
    weight_rows = tl.minimum(columns, expert_size - 1)
    depth = tl.arange(0, BLOCK_DEPTH)
    token_pointers = tokens + from_tokens[:, None] * hidden_size + depth[None, :]
    weights += expert.to(tl.int64) * 2 * expert_size * hidden_size
    gate_pointers = weights + weight_rows[None, :] * hidden_size + depth[:, None]
    up_pointers = gate_pointers + expert_size * hidden_size
    gate = tl.full((BLOCK_ROWS, BLOCK_COLUMNS), 0.0, tl.float32)
    up = tl.full((BLOCK_ROWS, BLOCK_COLUMNS), 0.0, tl.float32)
    if scales is not None:
        blocks = tl.cdiv(hidden_size, SCALE_BLOCK)
        scales += expert * tl.cdiv(2 * expert_size, SCALE_BLOCK) * blocks
        gate_scales = scales + weight_rows // SCALE_BLOCK * blocks
        up_scales = scales + (expert_size + weight_rows) // SCALE_BLOCK * blocks
        of_gate_scales, of_up_scales = tl.load(gate_scales), tl.load(up_scales)
    for start in range(0, hidden_size, BLOCK_DEPTH):
        there = depth < hidden_size - start
        of_tokens = tl.load(token_pointers + start, mask=there[None, :], other=0.0)
        of_gate = tl.load(gate_pointers + start, mask=there[:, None], other=0.0)
        of_up = tl.load(up_pointers + start, mask=there[:, None], other=0.0)
        if scales is None:
            of_tokens = of_tokens.to(DOT_TYPE)
            gate = tl.dot(of_tokens, operand(of_gate, DOT_TYPE), gate, input_precision="ieee")
            up = tl.dot(of_tokens, operand(of_up, DOT_TYPE), up, input_precision="ieee")
        else:
            # Read a step ahead: Triton brings early only what its products multiply.
            following = tl.minimum((start + BLOCK_DEPTH) // SCALE_BLOCK, blocks - 1)
            next_gate, next_up = tl.load(gate_scales + following), tl.load(up_scales + following)
            values, row_scales = quantised(of_tokens, DOT_TYPE)
            by_gate = tl.dot(values, operand(of_gate, DOT_TYPE), input_precision="ieee")
            by_up = tl.dot(values, operand(of_up, DOT_TYPE), input_precision="ieee")
            gate += by_gate * (row_scales[:, None] * of_gate_scales[None, :])
            up += by_up * (row_scales[:, None] * of_up_scales[None, :])
            of_gate_scales, of_up_scales = next_gate, next_up
    values = gate / (1.0 + tl.exp(-gate)) * up
    pointers = hidden + rows.to(tl.int64)[:, None] * expert_size + columns[None, :]
    inside = (rows < end)[:, None] & (columns < expert_size)[None, :]
    tl.store(pointers, as_stored(values, hidden, INTERPRETED), mask=inside)


@triton.jit
def down_weighted(
    hidden,
    weights,
    scales,
    row_ends,
    row_weights,
    row_outputs,
    num_experts,
    hidden_size,
    expert_size,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    BLOCK_DEPTH: tl.constexpr,
    EXPERTS: tl.constexpr,
    DOT_TYPE: tl.constexpr,
):
    """Write a block of row_outputs fp32 [num_rows, hidden_size], each row times its weight.

    Grid: (row blocks, ceil(hidden_size / BLOCK_COLUMNS)). With scales, BLOCK_DEPTH is 128.
    """
    expert, first, end = row_block(row_ends, num_experts, BLOCK_ROWS, EXPERTS)
    if first >= end:
        return
    rows = first + tl.arange(0, BLOCK_ROWS)
    columns = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    from_rows = tl.minimum(rows, end - 1).to(tl.int64)
    weight_rows = tl.minimum(columns, hidden_size - 1)
    depth = tl.arange(0, BLOCK_DEPTH)
    row_pointers = hidden + from_rows[:, None] * expert_size + depth[None, :]
    weights += expert.to(tl.int64) * hidden_size * expert_size
    weight_pointers = weights + weight_rows[None, :] * expert_size + depth[:, None]
    outputs = tl.full((BLOCK_ROWS, BLOCK_COLUMNS), 0.0, tl.float32)
    if scales is not None:
        blocks = tl.cdiv(expert_size, SCALE_BLOCK)
        scales += expert * tl.cdiv(hidden_size, SCALE_BLOCK) * blocks
        column_scales = scales + weight_rows // SCALE_BLOCK * blocks
        of_scales = tl.load(column_scales)
    for start in range(0, expert_size, BLOCK_DEPTH):
        there = depth < expert_size - start
        of_rows = tl.load(row_pointers + start, mask=there[None, :], other=0.0)
        of_weights = tl.load(weight_pointers + start, mask=there[:, None], other=0.0)
        of_weights = operand(of_weights, DOT_TYPE)
        if scales is None:
            outputs = tl.dot(of_rows.to(DOT_TYPE), of_weights, outputs, input_precision="ieee")
        else:
            following = tl.minimum((start + BLOCK_DEPTH) // SCALE_BLOCK, blocks - 1)
            next_scales = tl.load(column_scales + following)
            values, row_scales = quantised(of_rows, DOT_TYPE)
            products = tl.dot(values, of_weights, input_precision="ieee")
            outputs += products * (row_scales[:, None] * of_scales[None, :])
            of_scales = next_scales
    outputs *= tl.load(row_weights + from_rows)[:, None]
    pointers = row_outputs + rows.to(tl.int64)[:, None] * hidden_size + columns[None, :]
    inside = (rows < end)[:, None] & (columns < hidden_size)[None, :]
    tl.store(pointers, outputs, mask=inside)


@triton.jit
def combine(
    row_outputs,
    token_rows,
    outputs,
    hidden_size,
    TOP_K: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Write outputs [num_tokens, hidden_size]: each token's rows, added in their order.

    Grid: (num_tokens, ceil(hidden_size / BLOCK_COLUMNS)). token_rows is int32 [num_tokens, TOP_K],
    -1 for none.
    """
    token = tl.program_id(0)
    columns = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    inside = columns < hidden_size
    total = tl.full((BLOCK_COLUMNS,), 0.0, tl.float32)
    for slot in tl.static_range(TOP_K):
        row = tl.load(token_rows + token * TOP_K + slot).to(tl.int64)
        there = columns < tl.where(row < 0, 0, hidden_size)
        total += tl.load(row_outputs + row * hidden_size + columns, mask=there, other=0.0)
    pointers = outputs + token.to(tl.int64) * hidden_size + columns
    tl.store(pointers, as_stored(total, outputs, INTERPRETED), mask=inside)
