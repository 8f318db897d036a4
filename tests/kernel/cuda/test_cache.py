from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cuda_examples import COPIES, use_examples

from moeprof.kernel.cuda import cache
from moeprof.kernel.cuda.cache import build, cache_folder
from moeprof.kernel.cuda.compile import Built

if TYPE_CHECKING:
    from pathlib import Path

    from moeprof.kernel.cuda.variants import Variant


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has been compiled, by a compiler whose machine code is its own number."""
    use_examples(tmp_path, monkeypatch)
    done: list[str] = []

    def compile_variant(variant: Variant, architecture: str) -> Built:
        done.append(f"{variant.name} {architecture}")
        return Built(variant, architecture, b"code \n%d" % len(done), "said", "13.5")

    monkeypatch.setattr(cache, "compile_variant", compile_variant)
    monkeypatch.setattr(cache, "compiler_version", lambda: "13.5")
    return done


def files() -> list[Path]:
    return sorted(cache_folder().iterdir())


def test_the_same_source_is_compiled_once(compiled: list[str]) -> None:
    first, second = build(COPIES, "sm_80"), build(COPIES, "sm_80")

    assert first == second == Built(COPIES, "sm_80", b"code \n1", "said", "13.5")
    assert compiled == ["copies-t128 sm_80"]
    assert [file.suffix for file in files()] == [".cubin"]


def test_whatever_decides_about_the_code_is_in_the_key(
    compiled: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(COPIES, "sm_80")
    build(COPIES, "sm_86")
    build(replace(COPIES, defines=(("THREADS", "64"), ("FACTOR", "2.0f"))), "sm_80")
    with (tmp_path / "copies.cu").open("a", encoding="utf-8") as file:
        file.write("// another line\n")
    build(COPIES, "sm_80")
    monkeypatch.setattr(cache, "OPTIONS", ())
    build(COPIES, "sm_80")
    monkeypatch.setattr(cache, "compiler_version", lambda: "13.6")
    build(COPIES, "sm_80")

    assert len(compiled) == len(files()) == 6


@pytest.mark.parametrize("damaged", [b"", b"{}\ncode", b"[1]\ncode", b"\xff\xfe\x00"])
def test_a_damaged_file_is_made_anew(compiled: list[str], damaged: bytes) -> None:
    build(COPIES, "sm_80")
    files()[0].write_bytes(damaged)

    assert build(COPIES, "sm_80").cubin == b"code \n2"
    assert build(COPIES, "sm_80").cubin == b"code \n2"
    assert len(compiled) == 2


def test_a_file_that_lost_its_end_is_made_anew(compiled: list[str]) -> None:
    build(COPIES, "sm_80")
    files()[0].write_bytes(files()[0].read_bytes()[:-1])

    assert build(COPIES, "sm_80").cubin == b"code \n2"


def test_without_a_writable_folder_everything_is_built_each_time(
    compiled: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("MOEPROF_CACHE", str(tmp_path / "a file" / "below"))

    assert build(COPIES, "sm_80").cubin == b"code \n1"
    assert build(COPIES, "sm_80").cubin == b"code \n2"


def test_without_a_home_everything_is_built_each_time(
    compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MOEPROF_CACHE")
    monkeypatch.setattr(cache.Path, "home", no_home)

    assert build(COPIES, "sm_80").cubin == b"code \n1"
    assert build(COPIES, "sm_80").cubin == b"code \n2"
