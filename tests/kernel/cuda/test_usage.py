from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cuda_examples import COPIES, INDEXES, KEEPS, use_examples

from moeprof.kernel.cuda.compile import Built, compile_variant
from moeprof.kernel.cuda.usage import Usage, remarks_of, usage_of

if TYPE_CHECKING:
    from pathlib import Path

REPORT = """\
kernels/copies.cu(3): warning #177-D: variable "unused" was declared but never referenced

Remark: The warnings can be suppressed with "-diag-suppress <warning-number>"

ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'copies_more' for 'sm_90a'
ptxas info    : Function properties for copies_more
ptxas         .     8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 16 bytes smem, 492 bytes cmem[0]
ptxas info    : Compile time = 2.405 ms
ptxas info    : (C7508) Potential Performance Loss: 'setmaxnreg' ignored to maintain minimum
ptxas info    : Compiling entry function 'copies' for 'sm_90a'
ptxas info    : Function properties for called
ptxas         .     16 bytes stack frame, 12 bytes spill stores, 20 bytes spill loads
ptxas info    : Function properties for copies
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 72 registers, used 0 barriers, 1040 bytes smem
"""
BUILT = Built(COPIES, "sm_90a", b"", REPORT, "13.5")


def test_a_report_is_read_for_the_variants_own_entry() -> None:
    assert usage_of(BUILT) == Usage(
        registers=72,
        stack_bytes=16,
        spill_store_bytes=12,
        spill_load_bytes=20,
        static_shared_bytes=1040,
    )


def test_an_entry_that_is_not_there_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match=r"no entry function 'absent'.*'copies'"):
        usage_of(replace(BUILT, variant=replace(COPIES, entry="absent")))


def test_warnings_and_what_ptxas_only_remarks_are_told() -> None:
    warning, ignored = remarks_of(BUILT)

    assert "never referenced" in warning
    assert "'setmaxnreg' ignored" in ignored


def test_a_real_compiler_reports_a_stack_and_spills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_examples(tmp_path, monkeypatch)

    with_stack = usage_of(compile_variant(INDEXES, "sm_90a"))
    assert with_stack.stack_bytes >= 160
    assert with_stack.spill_store_bytes == 0
    spilling = usage_of(compile_variant(KEEPS, "sm_90a"))
    assert spilling.registers == 32
    assert spilling.spill_store_bytes > 0
    assert spilling.spill_load_bytes > 0
