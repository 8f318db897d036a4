from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cuda_examples import COPIES, INDEXES, KEEPS, use_examples

from moeprof.errors import ExtraMissing
from moeprof.kernel.cuda import inspection
from moeprof.kernel.cuda.ceilings import Ceilings
from moeprof.kernel.cuda.inspection import (
    ceilings_from,
    complaints_of,
    inspect_all,
    inspect_target,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_examples(tmp_path, monkeypatch)


def test_what_is_found_comes_in_the_order_asked_and_is_told_one_by_one() -> None:
    told: list[tuple[str, int, int]] = []

    found = inspect_all(
        [(COPIES, "sm_90a"), (COPIES, "sm_80")],
        num_workers=1,
        on_progress=lambda *news: told.append(news),
    )

    assert [each.architecture for each in found] == ["sm_90a", "sm_80"]
    assert told == [("copies-t128 sm_90a", 1, 2), ("copies-t128 sm_80", 2, 2)]
    assert all(each.complaints == () for each in found)
    assert found[0].shared_bytes == 2048
    assert found[0].blocks_per_multiprocessor == 16


def test_a_kernel_meets_the_ceilings_made_from_it_and_no_lower_ones() -> None:
    found = inspect_target((COPIES, "sm_90a"))
    ceilings = ceilings_from([found])

    assert complaints_of(found, ceilings) == ()
    lower = Ceilings(found.compiler, {"sm_90a": {"copies-t128": found.usage.registers - 1}})
    (complaint,) = complaints_of(found, lower)
    assert complaint.startswith(f"{found.usage.registers} registers, the ceiling is ")


def test_an_instruction_that_is_not_there_is_a_broken_promise() -> None:
    promised = replace(COPIES, expects=("LDGSTS.E.128", "HGMMA.64x", "STG.E"))

    assert inspect_target((promised, "sm_90a")).complaints == ("has no HGMMA.64x",)


def test_local_memory_spills_and_blocks_that_do_not_fit_are_told() -> None:
    (local,) = inspect_target((INDEXES, "sm_90a")).complaints
    assert local.endswith("instructions use local memory")

    spilling = inspect_target((KEEPS, "sm_90a"))
    assert any(
        words.startswith("spills ") for words in complaints_of(spilling, ceilings_from([spilling]))
    )

    huge = inspect_target((replace(COPIES, shared_bytes=228 * 1024), "sm_90a"))
    assert huge.complaints == ("not one block fits on a multiprocessor",)


def test_without_nvdisasm_the_rest_is_known_and_the_want_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(built: object) -> None:
        raise ExtraMissing("nvdisasm is nowhere")

    monkeypatch.setattr(inspection, "instructions_of", missing)

    found = inspect_target((COPIES, "sm_90a"))
    assert found.instructions is None
    assert found.usage.registers > 0
    assert found.complaints == ("its instructions are not known: pip install nvidia-cuda-nvdisasm",)
