from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cuda_examples import COPIES, use_examples

from moeprof.kernel.cuda.sources import source_text

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_macros_come_first_then_the_device_the_headers_and_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_examples(tmp_path, monkeypatch)
    (tmp_path / "both.cuh").write_text("struct Both {};\n", encoding="utf-8")

    text = source_text(replace(COPIES, headers=("both.cuh",)), "sm_103a")

    assert text.startswith("#define ARCH 103\n#define THREADS 128\n#define FACTOR 2.0f\n#line 1 ")
    files = ["device.cuh", "both.cuh", "copies.cu"]
    places = [text.index(f'#line 1 "kernels/{file}"\n') for file in files]
    assert places == sorted(places)
    assert text.index("struct Both") > places[1]
    assert text.count("#include") == 0
