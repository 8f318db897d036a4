from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cuda_examples import COPIES, INDEXES, use_examples
from rich.console import Console

from moeprof.errors import ExitCode, InputError, UsageError
from moeprof.kernel.cuda.ceilings import Ceilings, ceilings_text, read_ceilings
from moeprof.kernel.cuda.inspection import Inspected
from moeprof.kernel.cuda.sass import Instructions
from moeprof.kernel.cuda.usage import Usage
from moeprof.report import kernels_inspect
from moeprof.report.kernels_inspect import chosen_targets, inspection_tables, show_inspect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from moeprof.kernel.cuda.variants import Variant

ARCHITECTURES = ("sm_80", "sm_90a")
FOUND = Inspected(
    variant=COPIES,
    architecture="sm_90a",
    compiler="13.5",
    usage=Usage(40, 0, 0, 0, static_shared_bytes=512),
    blocks_per_multiprocessor=12,
    instructions=Instructions({"LDGSTS.E.128": 3, "EXIT": 1}),
    complaints=(),
)


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ExitCode]:
    """The command on two examples, one of which uses local memory, with a ceiling for each."""
    use_examples(tmp_path, monkeypatch)

    def all_variants(architecture: str) -> tuple[Variant, ...]:
        return (COPIES, INDEXES) if architecture == "sm_90a" else (COPIES,)

    committed = tmp_path / "ceilings.toml"
    registers = {architecture: {"copies-t128": 32} for architecture in ARCHITECTURES}
    committed.write_text(ceilings_text(Ceilings("13.5", registers)), encoding="utf-8")
    monkeypatch.setattr(kernels_inspect, "ARCHITECTURES", ARCHITECTURES)
    monkeypatch.setattr(kernels_inspect, "all_variants", all_variants)
    monkeypatch.setattr(kernels_inspect, "ceilings_path", lambda: committed)
    monkeypatch.setattr(kernels_inspect, "_num_cores", lambda: 1)

    def call(*names: str, **options: object) -> ExitCode:
        asked = {
            "architectures": (),
            "sass": False,
            "ceilings": False,
            "write_ceilings": None,
            "as_json": False,
        }
        return show_inspect(names, **{**asked, **options})

    return call


def test_the_table_has_the_kinds_of_instructions_that_there_are() -> None:
    without = replace(
        FOUND,
        variant=replace(COPIES, name="copies-t64"),
        instructions=None,
        complaints=("has no LDSM", "2 instructions use local memory"),
    )
    later = replace(FOUND, architecture="sm_120a", complaints=())
    stream = io.StringIO()

    judged = [(each, each.complaints) for each in (FOUND, without, later)]
    for table in inspection_tables(judged):
        Console(file=stream, width=160).print(table)

    lines = [" ".join(line.split()) for line in stream.getvalue().splitlines()]
    assert lines[0] == "sm_90a · NVRTC 13.5"
    assert lines[2] == (
        "┃ kernel ┃ registers ┃ stack ┃ spills ┃ shared ┃ blocks/SM ┃ LDGSTS ┃ total ┃"
    )
    assert lines[4] == "│ copies-t128 │ 40 │ 0 │ 0 │ 2.5 KiB │ 12 │ 3 │ 4 │"
    assert lines[5] == "│ copies-t64 │ 40 │ 0 │ 0 │ 2.5 KiB │ 12 │ - │ - │"
    assert lines[7] == "sm_120a · NVRTC 13.5"


def test_what_is_wrong_is_a_line_of_its_own(
    show: Callable[..., ExitCode], capsys: pytest.CaptureFixture[str]
) -> None:
    show("indexes")
    (line,) = (each for each in capsys.readouterr().out.splitlines() if "sm_90a: " in each)

    assert line.startswith("indexes sm_90a: ")
    assert "local memory" in line


def test_only_a_check_fails_and_only_where_something_is_wrong(
    show: Callable[..., ExitCode], capsys: pytest.CaptureFixture[str]
) -> None:
    assert show(architectures=["sm_90a"]) == ExitCode.DONE
    assert "2 kernels compiled, 1 with something wrong" in capsys.readouterr().out
    assert show("copies-t128", ceilings=True) == ExitCode.DONE
    assert f"{len(ARCHITECTURES)} kernels compiled, 0 with" in capsys.readouterr().out
    assert show("index*", ceilings=True) == ExitCode.GATE_FAILED
    assert "no ceiling is committed" in capsys.readouterr().out


def test_a_program_reads_the_same(
    show: Callable[..., ExitCode], capsys: pytest.CaptureFixture[str]
) -> None:
    show("copies-t128", architectures=["sm_80"], ceilings=True, as_json=True)

    captured = capsys.readouterr()
    (kernel,) = json.loads(captured.out)["kernels"]
    assert captured.err == "[1/1] copies-t128 sm_80\n"
    assert kernel["name"] == "copies-t128"
    assert kernel["architecture"] == "sm_80"
    assert 0 < kernel["registers"] <= 32
    assert kernel["spill_store_bytes"] == kernel["stack_bytes"] == 0
    assert kernel["shared_bytes"] == 2048
    assert kernel["instructions"]["LDGSTS"] == 1
    assert kernel["complaints"] == []


def test_ceilings_that_are_written_are_met(
    show: Callable[..., ExitCode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = tmp_path / "new.toml"
    show(write_ceilings=written)

    assert set(read_ceilings(written).registers) == set(ARCHITECTURES)
    assert set(read_ceilings(written).registers["sm_90a"]) == {"copies-t128", "indexes"}
    monkeypatch.setattr(kernels_inspect, "ceilings_path", lambda: written)
    assert show("copies-t128", ceilings=True) == ExitCode.DONE


def test_ceilings_are_written_for_all_or_not_at_all(
    show: Callable[..., ExitCode], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="of all kernels for all architectures"):
        show("copies-t128", write_ceilings=tmp_path / "new.toml")
    with pytest.raises(InputError, match="absent"):
        show(write_ceilings=tmp_path / "absent" / "new.toml")


def test_a_listing_is_of_what_was_named(
    show: Callable[..., ExitCode], capsys: pytest.CaptureFixture[str]
) -> None:
    assert show("copies-t128", architectures=["sm_80"], sass=True) == ExitCode.DONE

    out = capsys.readouterr().out
    assert out.startswith("// copies-t128 sm_80\n")
    assert "LDGSTS" in out
    assert "EXIT" in out


@pytest.mark.parametrize(
    ("names", "architectures", "said"),
    [
        (["copys-t128"], [], "did you mean copies-t128"),
        (["*x*y*"], [], r"no kernel '\*x\*y\*' is built$"),
        (["indexes"], ["sm_80"], "no kernel 'indexes' is built for sm_80"),
        ([], ["SM_90"], "did you mean sm_90a"),
        ([], ["sm_75"], "'sm_75' is not one of sm_80, "),
    ],
)
def test_what_is_not_known_is_refused(
    show: object, names: list[str], architectures: list[str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        chosen_targets(names, architectures)
