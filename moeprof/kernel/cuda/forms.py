"""A compiled expert kernel and what binding it to data takes, whichever source it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.kernel.cuda import stream, wgmma
from moeprof.kernel.cuda.experts import expert_arguments
from moeprof.kernel.cuda.tensor_map import down_tensor, encode, gate_up_tensor

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable

    from moeprof.kernel.buffers import Buffers
    from moeprof.kernel.cuda.experts import Scratch
    from moeprof.kernel.cuda.variants import Variant
    from moeprof.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class Form:
    """One variant of an expert kernel for one architecture; its name is the variant's.

    `refusal(workload)` is why a workload is not for it, or None. `num_partials(workload,
    num_tokens, num_blocks)` are fp32 values and `num_counters` of the same u32 values of scratch;
    `arguments` makes a launch's structure for one buffer set.
    """

    variant: Variant
    refusal: Callable[[Workload], str | None]
    num_partials: Callable[[Workload, int, int], int]
    num_counters: Callable[[Workload, int, int], int]
    arguments: Callable[[Buffers, Scratch, int], ctypes.Structure]


def forms(architecture: str) -> dict[str, Form]:
    """Return every expert kernel that is built for an architecture, by its variant's name."""
    made = [stream_form(each, architecture) for each in stream.settings(architecture)]
    made += [wgmma_form(each) for each in wgmma.settings(architecture)]
    return {each.variant.name: each for each in made}


def stream_form(settings: stream.StreamSettings, architecture: str) -> Form:
    """Return the streaming kernel in one of its settings."""
    rows = settings.rows
    return Form(
        variant=stream.variant(settings, architecture),
        refusal=lambda workload: of_dtype(workload, settings.dtype) or stream.refusal(workload),
        num_partials=lambda _workload, _tokens, blocks: stream.num_partials(rows, blocks),
        num_counters=lambda workload, tokens, _: stream.num_counters(workload, tokens, rows),
        arguments=expert_arguments,
    )


def wgmma_form(settings: wgmma.WgmmaSettings) -> Form:
    """Return the warpgroup kernel in one of its settings."""
    rows = settings.rows
    return Form(
        variant=wgmma.variant(settings),
        refusal=lambda workload: of_dtype(workload, settings.dtype) or wgmma.refusal(workload),
        num_partials=lambda workload, tokens, blocks: wgmma.num_partials(
            workload, tokens, rows, blocks
        ),
        num_counters=lambda workload, tokens, blocks: wgmma.num_counters(
            workload, tokens, rows, blocks
        ),
        arguments=_with_maps,
    )


def _with_maps(buffers: Buffers, scratch: Scratch, buffer_set: int) -> wgmma.WgmmaArguments:
    """Return the arguments and the tensor maps of one buffer set's weights."""
    workload = buffers.workload
    sizes = {
        "num_experts": workload.num_local_experts,
        "expert_size": workload.local_expert_size,
        "hidden_size": workload.layer.hidden_size,
        "element_bytes": buffers.bank.gate_up.element_size(),
    }
    gate_up = gate_up_tensor(buffers.gate_up(buffer_set).data_ptr(), **sizes)
    down = down_tensor(buffers.down(buffer_set).data_ptr(), **sizes)
    arguments = wgmma.WgmmaArguments(experts=expert_arguments(buffers, scratch, buffer_set))
    arguments.gate_up_map[:] = encode(gate_up)
    arguments.down_map[:] = encode(down)
    return arguments


def of_dtype(workload: Workload, dtype: str) -> str | None:
    """Return why a variant for `dtype` does not take a workload, or None where the dtypes agree."""
    found = workload.weight_dtype
    return None if found == dtype else f"this variant is for {dtype} weights, not {found}"


def default_stream(workload: Workload, architecture: str) -> str:
    """Return the streaming variant that is taken where nothing was tuned.

    As many rows at a time as the fullest expert has, and two blocks to a multiprocessor where that
    is built: one multiplies while the other finishes a tile.
    """
    rows = stream.default_rows(workload.max_rows_per_expert)
    fitting = [
        each
        for each in stream.settings(architecture)
        if each.dtype == workload.weight_dtype and each.rows <= rows
    ]
    return max(fitting, key=lambda each: (each.rows, each.blocks)).name


def default_wgmma(workload: Workload, architecture: str) -> str | None:
    """Return the warpgroup variant that is taken where nothing was tuned, None where none is."""
    rows = wgmma.default_rows(workload.max_rows_per_expert)
    name = wgmma.WgmmaSettings(workload.weight_dtype, rows).name
    built = architecture in wgmma.ARCHITECTURES and wgmma.refusal(workload) is None
    return name if built else None


def default_name(workload: Workload, architecture: str) -> str:
    """Return the variant of either kind that is taken where nothing was tuned.

    The streaming one, unless some expert has more rows than it takes at a time, and would have its
    weights read twice; or with fp8 on Hopper, whose `mma.sync` has no e4m3: unpacking it to fp16
    takes, from 16 rows on, as many instructions as there is time for, or more.
    """
    many = workload.max_rows_per_expert > stream.MAX_ROWS
    wanted = many or workload.weight_dtype == "fp8_block"
    chosen = default_wgmma(workload, architecture) if wanted else None
    return chosen or default_stream(workload, architecture)
