"""A compiled expert kernel and what binding it to data takes, whichever source it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.kernel.cuda import stream
from moeprof.kernel.cuda.experts import expert_arguments

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

    `refusal(workload)` is why a workload is not for it, or None. `num_partials(num_blocks)` are
    fp32 values and `num_counters(workload, num_tokens)` u32 values of scratch; `arguments` makes a
    launch's structure for one buffer set.
    """

    variant: Variant
    dtype: str
    refusal: Callable[[Workload], str | None]
    num_partials: Callable[[int], int]
    num_counters: Callable[[Workload, int], int]
    arguments: Callable[[Buffers, Scratch, int], ctypes.Structure]


def forms(architecture: str) -> dict[str, Form]:
    """Return every expert kernel that is built for an architecture, by its variant's name."""
    made = [stream_form(each, architecture) for each in stream.settings(architecture)]
    return {each.variant.name: each for each in made}


def stream_form(settings: stream.StreamSettings, architecture: str) -> Form:
    """Return the streaming kernel in one of its settings."""
    return Form(
        variant=stream.variant(settings, architecture),
        dtype=settings.dtype,
        refusal=lambda workload: of_dtype(workload, settings.dtype) or stream.refusal(workload),
        num_partials=lambda num_blocks: stream.num_partials(settings.rows, num_blocks),
        num_counters=lambda workload, num_tokens: stream.num_counters(
            workload, num_tokens, settings.rows
        ),
        arguments=expert_arguments,
    )


def of_dtype(workload: Workload, dtype: str) -> str | None:
    """Return why a variant for `dtype` does not take a workload, or None where the dtypes agree."""
    found = workload.weight_dtype
    return None if found == dtype else f"this variant is for {dtype} weights, not {found}"


def default_name(workload: Workload, architecture: str) -> str:
    """Return the variant that is taken where nothing was tuned.

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
