from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from moeprof.bench.result import RowStatus
from moeprof.bench.run import run_bench
from moeprof.device.registry import open_device
from moeprof.errors import ExitCode, StoppedAtOnce, UsageError
from moeprof.kernel.check.quick import forget_checks
from moeprof.kernel.reference import reference_output
from moeprof.report.consoles import console_on
from moeprof.report.kernels_bench import bench_request, print_bench, show_bench
from moeprof.report.kernels_bench_files import draw_bench, markdown_lines, write_document
from moeprof.report.kernels_bench_grid import grids, point_words

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from moeprof.bench.request import BenchRequest
    from moeprof.bench.result import BenchReport
    from moeprof.kernel.buffers import Buffers


def request(device: str = "sim:h200-sxm", **words: object) -> BenchRequest:
    asked = {"tokens": "1,64", "dtypes": ("bf16",), "kernels": ("torch-loop", "torch-grouped")}
    return bench_request(
        ("mixtral-8x7b",),
        device=device,
        **asked | {"rounds": 30} | words,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def report() -> BenchReport:
    device = open_device("sim:h200-sxm", seed=0)
    return run_bench(request(), device)


def test_a_grid_has_a_row_per_batch_size_and_a_column_per_kernel(report: BenchReport) -> None:
    (grid,) = grids(report)

    assert grid.title == "mixtral-8x7b  ·  bf16  ·  simulated NVIDIA H200"
    assert grid.columns == ("batch", "active", "touched", "ceiling", "torch-loop", "torch-grouped")
    assert [cells[:3] for cells in grid.cells] == [("1", "2", "705 MB"), ("64", "8", "2.83 GB")]
    assert all(sum(cell.endswith("*") for cell in cells) == 1 for cells in grid.cells)
    assert grid.notes == ("ceiling: datasheet",)


def test_a_kernel_that_never_ran_is_a_note_and_not_a_column(report: BenchReport) -> None:
    points = [
        replace(
            point,
            rows=(
                point.rows[0],
                replace(
                    point.rows[1],
                    status=RowStatus.UNSUPPORTED,
                    detail="too wide",
                    latency=None,
                    bandwidth_fraction=None,
                    l2_state=None,
                ),
            ),
        )
        for point in report.points
    ]
    (grid,) = grids(replace(report, points=tuple(points)))

    assert "torch-grouped" not in grid.columns
    assert "torch-grouped: unsupported: too wide" in grid.notes


def test_an_impossible_row_is_marked_and_explained(report: BenchReport) -> None:
    first = report.points[0]
    row = replace(first.rows[0], status=RowStatus.IMPOSSIBLE, detail="130 % of the ceiling")
    (grid,) = grids(
        replace(report, points=(replace(first, rows=(row, first.rows[1])), report.points[1]))
    )

    assert grid.cells[0][4].endswith("!")
    assert "torch-loop at B=1: impossible: 130 % of the ceiling" in grid.notes


def test_a_point_is_told_in_one_line_the_fastest_first(report: BenchReport) -> None:
    point = report.points[0]
    assert point.fastest is not None

    assert point_words(point).startswith(f"mixtral-8x7b bf16 B=1: {point.fastest.kernel} ")


def test_what_was_left_out_and_lost_is_said(report: BenchReport) -> None:
    told = io.StringIO()
    short = replace(report, left_out=(report.points[0].workload,), lost="Xid 79")
    print_bench(console_on(told), short)
    markdown = "\n".join(markdown_lines(short))

    assert "1 points were left out" in told.getvalue()
    assert "the device was lost: Xid 79" in told.getvalue()
    assert "The device was lost: Xid 79" in markdown


def test_asterisks_are_no_italics_in_markdown(report: BenchReport) -> None:
    lines = [line for line in markdown_lines(report) if line.startswith("| 1 |")]

    assert lines
    assert all("\\*" in line and " *" not in line.replace("\\*", "") for line in lines)


def test_the_picture_shows_every_kernel(report: BenchReport) -> None:
    picture = draw_bench(report)

    assert picture is not None
    assert picture == draw_bench(report)


def test_files_hold_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = show_bench(request(), out=tmp_path / "new", as_json=True)
    document = json.loads(capsys.readouterr().out)
    kept = json.loads((tmp_path / "new" / "bench.json").read_text(encoding="utf-8"))

    assert code is ExitCode.DONE
    assert kept == document
    assert pq.read_table(tmp_path / "new" / "bench.parquet").num_rows == 4
    assert {each.name for each in (tmp_path / "new").iterdir()} == {
        *("bench.json", "bench.csv", "bench.parquet", "bench.md", "bench.svg")
    }


def test_real_kernels_on_a_cpu_are_checked_and_timed(capsys: pytest.CaptureFixture[str]) -> None:
    asked = bench_request(
        ("tiny",),
        tokens="1",
        dtypes=(),
        kernels=("torch-loop", "stream"),
        device="cpu",
        rounds=8,
    )
    code = show_bench(asked, out=None, as_json=True)
    (point,) = json.loads(capsys.readouterr().out)["points"]
    statuses = {row["kernel"]: row["status"] for row in point["rows"]}

    assert code is ExitCode.DONE
    assert statuses == {"torch-loop": "ok", "stream": "unsupported"}
    assert point["ceiling"]["source"] == "measured"


def test_a_bench_of_kernels_that_do_not_run_here_ends_as_their_check_does() -> None:
    asked = bench_request(("tiny",), tokens="1", dtypes=(), kernels=("stream",), device="cpu")

    assert show_bench(asked, out=None, as_json=True) is ExitCode.DEVICE


def test_a_bench_of_wrong_kernels_only_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moeprof.kernel.check.compare.reference_output", wrong)
    forget_checks()
    asked = bench_request(("tiny",), tokens="1", dtypes=(), kernels=("torch-loop",), device="cpu")

    assert show_bench(asked, out=None, as_json=True) is ExitCode.GATE_FAILED
    forget_checks()


def wrong(buffers: Buffers, buffer_set: int) -> Tensor:
    return 2 * reference_output(buffers, buffer_set)


def test_an_interrupted_bench_keeps_finished_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def writing(out: Path, report: BenchReport) -> None:
        write_document(out, report)
        raise KeyboardInterrupt

    monkeypatch.setattr("moeprof.report.kernels_bench.write_document", writing)

    with pytest.raises(StoppedAtOnce, match="finished points are in"):
        show_bench(request(), out=tmp_path, as_json=True)

    document = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert len(document["points"]) == 1
    assert len(document["left_out"]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"tokens": "0"}, "--tokens must be at least 1"),
        ({"dtypes": ("bf17",)}, "--dtype must be one of"),
        ({"l2": "tepid"}, "--l2 must be one of cold, warm"),
    ],
)
def test_words_that_mean_nothing_are_refused(words: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        request(**words)


def test_a_folder_that_cannot_be_written_is_refused_before_minutes(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")

    with pytest.raises(UsageError, match="cannot be written"):
        show_bench(request(), out=tmp_path / "file", as_json=True)
