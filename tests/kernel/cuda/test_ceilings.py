from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moeprof.errors import InputError
from moeprof.kernel.cuda.ceilings import (
    Ceilings,
    ceilings_path,
    ceilings_text,
    exceeded,
    read_ceilings,
)
from moeprof.kernel.cuda.inspection import complaints_of, inspect_all
from moeprof.kernel.cuda.usage import Usage
from moeprof.kernel.cuda.variants import ARCHITECTURES, all_variants

if TYPE_CHECKING:
    from pathlib import Path

CEILINGS = Ceilings("13.5", {"sm_80": {"copies": 40}, "sm_90a": {"copies": 48, "wide": 168}})


def above(registers: int, *, compiler: str = "13.5", name: str = "copies") -> tuple[str, ...]:
    usage = Usage(registers, 0, 0, 0, static_shared_bytes=4096)
    return exceeded(CEILINGS, name, "sm_90a", usage, compiler=compiler)


def test_ceilings_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "ceilings.toml"
    path.write_text(ceilings_text(CEILINGS), encoding="utf-8")

    assert read_ceilings(path) == CEILINGS


def test_registers_may_reach_the_ceiling_and_not_pass_it() -> None:
    assert above(48) == ()
    assert above(49) == ("49 registers, the ceiling is 48",)
    assert above(8, name="new") == ("no ceiling is committed for its registers",)


def test_another_compiler_may_take_a_unit_more() -> None:
    assert above(56, compiler="13.0") == ()
    assert above(57, compiler="13.0") == (
        "57 registers, the ceiling is 48 (NVRTC 13.5, this is 13.0)",
    )


def test_nothing_may_spill_or_have_a_stack() -> None:
    usage = Usage(40, stack_bytes=8, spill_store_bytes=0, spill_load_bytes=4, static_shared_bytes=0)

    assert exceeded(CEILINGS, "copies", "sm_90a", usage, compiler="13.0") == (
        "spills 0 bytes, loads 4 back",
        "a stack of 8 bytes",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sm_80]\ncopies = 40", "compiler must be a version"),
        ('compiler = "13.5"\n[sm_80]\ncopies = 256', r"sm_80\.copies must be 1\.\.255"),
        ('compiler = "13.5"\n[sm_80]\ncopies = true', r"sm_80\.copies must be"),
        ('compiler = "13.5"\nsm_80 = 3.5', "sm_80 must be"),
        ("compiler", "ceilings.toml"),
        (None, "ceilings.toml"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "ceilings.toml"
    if text is not None:
        path.write_text(text, encoding="utf-8")

    with pytest.raises(InputError, match=said) as caught:
        read_ceilings(path)
    assert "--write-ceilings" in str(caught.value.hint)


def test_every_variant_of_every_architecture_keeps_its_promises(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOEPROF_CACHE", str(tmp_path_factory.mktemp("cache")))
    targets = [
        (variant, architecture)
        for architecture in ARCHITECTURES
        for variant in all_variants(architecture)
    ]
    ceilings = read_ceilings(ceilings_path())

    found = inspect_all(targets, num_workers=2, on_progress=lambda *told: None)

    wrong = {
        f"{each.variant.name} {each.architecture}": complaints
        for each in found
        if (complaints := complaints_of(each, ceilings))
    }
    assert wrong == {}
    named = {(name, at) for at, names in ceilings.registers.items() for name in names}
    assert named == {(variant.name, architecture) for variant, architecture in targets}
