from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from cuda_examples import COPIES, INDEXES, use_examples

from moeprof.errors import ExtraMissing
from moeprof.kernel.cuda import sass
from moeprof.kernel.cuda.compile import Built, compile_variant
from moeprof.kernel.cuda.sass import (
    Instructions,
    disassembly,
    find_nvdisasm,
    instructions_of,
    matches,
    mix,
)
from moeprof.kernel.cuda.variants import ARCHITECTURES


@pytest.mark.parametrize(
    ("name", "pattern", "matching"),
    [
        ("LDGSTS.E.BYPASS.LTC128B.128", "LDGSTS.E.128", True),
        ("LDGSTS.E.BYPASS.LTC128B.128", "LDGSTS.E.BYPASS.LTC128B.128", True),
        ("LDGSTS.E.BYPASS.LTC128B", "LDGSTS.128", False),
        ("LDGSTS.E.128", "LDG.128", False),
        ("LDG.E.128.CONSTANT", "LDG.128", True),
        ("LDG.E.64.CONSTANT", "LDG.128", False),
        ("HGMMA.64x16x16.F32.BF16", "HGMMA.64x.BF16", True),
        ("HGMMA.64x16x16.F32.BF16", "HGMMA.64x32", False),
        ("HMMA.16816.F32.BF16", "HMMA", True),
    ],
)
def test_a_pattern_is_the_instruction_and_some_of_its_modifiers(
    name: str, pattern: str, *, matching: bool
) -> None:
    assert matches(name, pattern) == matching


def test_a_mix_counts_every_kind_once() -> None:
    found = Instructions(
        {
            "BAR.SYNC.DEFER_BLOCKING": 2,
            "LDG.E": 7,
            "LDG.E.128.CONSTANT": 3,
            "LDG.E.ENL2.256": 4,
            "UBLKCP.S.G": 1,
            "UTMALDG.2D": 1,
        }
    )

    assert mix(found) == {
        **dict.fromkeys(sass.KINDS, 0),
        "LDG.128": 7,
        "bulk": 2,
        "BAR": 2,
        "total": 18,
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_real_machine_code_is_read_for_the_variants_own_entry(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_examples(tmp_path, monkeypatch)
    built = compile_variant(COPIES, architecture)

    found = instructions_of(built)
    assert mix(found)["LDGSTS"] == found.count("LDGSTS.E.128") == 1
    assert mix(found)["BAR"] == found.count("BAR.SYNC") == 1
    assert found.count("STG") == 1
    assert mix(found)["LDL"] == mix(found)["STL"] == 0
    assert 15 < found.total < 50
    other = replace(built, variant=replace(COPIES, entry="does_nothing"))
    assert instructions_of(other).count("LDGSTS") == 0
    assert "EXIT" in disassembly(other)
    assert "NOP" not in instructions_of(other).counts


def test_local_memory_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_examples(tmp_path, monkeypatch)

    found = mix(instructions_of(compile_variant(INDEXES, "sm_90a")))
    assert found["LDL"] >= 2
    assert found["STL"] >= 1


def test_instructions_under_a_predicate_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    listing = """\
\t.section\t.text.copies,"ax",@progbits
        /*0000*/              @!PT LDS RZ, [RZ] ;
        /*0010*/              @UP0 LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0020*/             @!UPT UIADD3 URZ, URZ, URZ, URZ ;
        /*0030*/                   BRA `(.L_x_0) ;                   /* 0xfffffff000007947 */
\t.section\t.text.other,"ax",@progbits
"""
    ran = CompletedProcess([], 0, listing, "")
    monkeypatch.setattr(sass.subprocess, "run", lambda *arguments, **options: ran)
    monkeypatch.setattr(sass, "find_nvdisasm", lambda: Path("nvdisasm"))

    found = instructions_of(Built(COPIES, "sm_90a", b"", "", "13.5"))
    assert found.counts == {"BRA": 1, "LDG.E.128": 1, "LDS": 1, "UIADD3": 1}


def test_without_nvdisasm_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sass, "_in_packages", lambda *names: iter(()))
    monkeypatch.setattr(sass.shutil, "which", lambda name: None)

    with pytest.raises(ExtraMissing, match="nvdisasm is nowhere") as caught:
        disassembly(Built(COPIES, "sm_90a", b"", "", "13.5"))
    assert caught.value.hint == "pip install nvidia-cuda-nvdisasm"


def test_an_nvdisasm_that_is_too_old_says_so() -> None:
    with pytest.raises(ExtraMissing, match=r"cannot read machine code for sm_90a of NVRTC 13\.5"):
        disassembly(Built(COPIES, "sm_90a", b"no machine code", "", "13.5"))


def test_nvdisasm_of_its_own_package_goes_first_and_tritons_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = {"nvidia": [Path("/pypi")], "triton": [Path("/triton")]}
    path: list[str] = ["/path"]
    monkeypatch.setattr(sass, "_in_packages", lambda package, pattern: iter(found[package]))
    monkeypatch.setattr(sass.shutil, "which", lambda name: path[0] if path else None)

    assert find_nvdisasm() == Path("/pypi")
    found["nvidia"] = []
    assert find_nvdisasm() == Path("/path")
    path.clear()
    assert find_nvdisasm() == Path("/triton")
    found["triton"] = []
    assert find_nvdisasm() is None
