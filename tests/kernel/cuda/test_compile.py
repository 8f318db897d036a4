from __future__ import annotations

import ctypes
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cuda_examples import COPIES, use_examples

from moeprof.errors import KernelUnsupported
from moeprof.kernel.cuda.arguments import ExpertArguments
from moeprof.kernel.cuda.compile import compile_variant, compiler_version
from moeprof.kernel.cuda.usage import remarks_of, usage_of
from moeprof.kernel.cuda.variants import ARCHITECTURES
from moeprof.resources import kernels_folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_source_becomes_machine_code_of_every_architecture_without_a_gpu(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_examples(tmp_path, monkeypatch)

    built = compile_variant(COPIES, architecture)

    assert built.cubin.startswith(b"\x7fELF")
    assert f"'copies' for '{architecture}'" in built.report
    assert built.compiler == compiler_version()
    assert 0 < usage_of(built).registers < 64
    assert remarks_of(built) == ()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("KERNEL(32, 1) f() {\n    nothing_such();\n}\n", r"kernels/wrong.cu\(2\): error.*such"),
        ('KERNEL(32, 1) f() { asm volatile("foo.bar;"); }\n', "ptxas.*foo"),
    ],
)
def test_what_does_not_compile_is_refused_in_the_compilers_words(
    wrong: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_examples(tmp_path, monkeypatch)
    (tmp_path / "wrong.cu").write_text(wrong, encoding="utf-8")

    with pytest.raises(KernelUnsupported, match=f"copies-t128 does not compile for sm_90a.*{said}"):
        compile_variant(replace(COPIES, source="wrong.cu"), "sm_90a")


@pytest.mark.parametrize("missing", ["cuda.core", "cuda.bindings.nvrtc"])
def test_without_cuda_core_the_extra_is_named(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(KernelUnsupported, match="built with cuda-core") as caught:
        compile_variant(COPIES, "sm_90a")
    assert caught.value.hint == 'pip install "moeprof[cuda]"'


@pytest.mark.parametrize("off_by", [0, 4])
def test_python_and_cuda_lay_out_the_same_arguments(
    off_by: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_examples(tmp_path, monkeypatch)
    header = (kernels_folder() / "experts.cuh").read_text(encoding="utf-8")
    (tmp_path / "experts.cuh").write_text(header, encoding="utf-8")
    claims = "".join(
        f'static_assert(__builtin_offsetof(ExpertArguments, {name}) == {place}, "{name}");\n'
        for name, _ in ExpertArguments._fields_
        for place in [getattr(ExpertArguments, name).offset]
    )
    claims += (
        f"static_assert(sizeof(ExpertArguments) == {ctypes.sizeof(ExpertArguments) + off_by});"
    )
    (tmp_path / "claims.cu").write_text(f"{claims}\nKERNEL(32, 1) copies() {{}}\n")
    variant = replace(COPIES, source="claims.cu", headers=("experts.cuh",))

    if off_by:
        with pytest.raises(KernelUnsupported, match="static assertion failed"):
            compile_variant(variant, "sm_90a")
    else:
        compile_variant(variant, "sm_90a")
