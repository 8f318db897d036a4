from __future__ import annotations

import json
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from bench_fakes import LAYER, ScriptedDevice, ScriptedKernel

from moeprof.bench.ceiling import READ_ONLY, SessionCeiling
from moeprof.bench.document import COLUMNS, document_of, table_of
from moeprof.bench.point import Session, measure_point
from moeprof.bench.request import BenchRequest, workload_of, workloads_of
from moeprof.bench.result import BenchReport, RowStatus, Verdict, touched_bytes
from moeprof.bench.rounds import ROUNDS_MIN
from moeprof.bench.run import run_bench
from moeprof.errors import DeviceLost, DeviceOutOfMemory, WorkloadError
from moeprof.kernel.protocol import Choice
from moeprof.kernel.registry import STAND_INS, kernel_names
from moeprof.workload.routing import Uniform

if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST = BenchRequest(layers=(LAYER,), batch_sizes=(4,), dtypes=("bf16",), rounds=20)
WORKLOAD = workload_of(LAYER, "bf16", 4, pattern=Uniform(), seed=0)
CEILING_SECONDS = touched_bytes(WORKLOAD) / 1e12


def noisy(seconds: float, seed: int = 0) -> Callable[[], float]:
    random = np.random.default_rng(seed)
    return lambda: seconds * (1 + 0.01 * float(random.random()))


def bench(
    *kernels: ScriptedKernel, device: Any = None, request: BenchRequest = REQUEST, check: Any = None
) -> BenchReport:
    given = {each.name: each for each in kernels}
    return run_bench(
        request,
        device or ScriptedDevice(),
        kernels=given,
        check=check,  # type: ignore[arg-type]
    )


def test_the_faster_kernel_is_told_from_the_slower_one() -> None:
    (point,) = bench(
        ScriptedKernel("a", noisy(2e-3, 1)), ScriptedKernel("b", noisy(3e-3, 2))
    ).points
    found = point.comparison("a", "b")

    assert found is not None
    assert found.verdict is Verdict.FASTER
    assert found.ratio.estimate == pytest.approx(2 / 3, rel=0.02)
    assert point.fastest is not None
    assert point.fastest.kernel == "a"


def test_equal_kernels_cannot_be_told_apart() -> None:
    (point,) = bench(
        ScriptedKernel("a", noisy(2e-3, 1)), ScriptedKernel("b", noisy(2e-3, 2))
    ).points
    found = point.comparison("a", "b")

    assert found is not None
    assert found.verdict is Verdict.UNDECIDED


def test_drift_that_both_suffer_does_not_blur_a_small_difference() -> None:
    """Unpaired, intervals of the medians overlap; in pairs the 2 % show."""
    device = ScriptedDevice()

    def drifting(seconds: float, seed: int) -> Callable[[], float]:
        random = np.random.default_rng(seed)
        return lambda: seconds * (1 + 4 * device.now()) * (1 + 0.002 * float(random.random()))

    (point,) = bench(
        ScriptedKernel("a", drifting(1e-3, 1)),
        ScriptedKernel("b", drifting(1.02e-3, 2)),
        device=device,
    ).points
    a, b = (row.latency for row in point.rows)
    found = point.comparison("a", "b")

    assert a is not None
    assert b is not None
    assert a.high > b.low
    assert found is not None
    assert found.verdict is Verdict.FASTER


def test_rounds_are_in_random_order() -> None:
    taken: list[str] = []

    def noting(name: str) -> Callable[[], float]:
        return lambda: taken.append(name) or 1e-3  # type: ignore[func-returns-value]

    bench(*(ScriptedKernel(name, noting(name)) for name in "abc"))
    rounds = ["".join(taken[at : at + 3]) for at in range(0, len(taken), 3)]

    assert {"".join(sorted(each)) for each in rounds} == {"abc"}
    assert len(set(rounds)) > 3


def test_bandwidth_is_touched_bytes_over_the_median_beside_the_ceiling() -> None:
    (point,) = bench(ScriptedKernel("a", lambda: 2 * CEILING_SECONDS)).points
    (row,) = point.rows

    assert row.status is RowStatus.OK
    assert row.bytes_per_second == pytest.approx(0.5e12)
    assert row.bandwidth_fraction is not None
    assert row.bandwidth_fraction.estimate == pytest.approx(0.5)


@pytest.mark.parametrize(("share", "status"), [(1.01, "ok"), (1.03, "impossible")])
def test_above_102_percent_of_the_ceiling_is_called_impossible(share: float, status: str) -> None:
    (point,) = bench(ScriptedKernel("a", lambda: CEILING_SECONDS / share)).points

    assert point.rows[0].status == status
    assert (point.rows[0].detail is not None) == (status == "impossible")


def test_a_warm_cache_has_no_ceiling_to_exceed() -> None:
    (point,) = bench(ScriptedKernel("a", lambda: CEILING_SECONDS / 3, l2_state="warm")).points

    assert point.rows[0].status is RowStatus.OK


def test_the_ceiling_of_a_shared_machine_is_the_highest_so_far() -> None:
    device = ScriptedDevice()
    speeds = iter((2e12, 1e12))
    device.ceilings = lambda dtype: type(ScriptedDevice().ceilings(dtype))(  # type: ignore[method-assign, misc]
        next(speeds), 1.0, "measured"
    )
    ceiling = SessionCeiling(device)  # type: ignore[arg-type]

    first, second = ceiling.without_kernel("bf16"), ceiling.without_kernel("bf16")

    assert first == second
    assert second is not None
    assert second.bytes_per_second == 2e12


def test_a_read_only_kernel_is_sampled_in_the_same_rounds() -> None:
    """When the memory halves its speed for both, the share stays."""
    device = ScriptedDevice()
    speeds = cycle((1.0, 2.0))
    now = {"slowdown": 1.0}

    def reading() -> float:
        return 1e-3 * now["slowdown"]

    def kernel() -> float:
        return 4e-3 * now["slowdown"]

    request = BenchRequest(layers=(LAYER,), batch_sizes=(4,), dtypes=("bf16",), rounds=20)
    program = device.prepare(ScriptedKernel("r", reading).bind(None, None, l2_state="", seed=0))
    session = Session(
        device,  # type: ignore[arg-type]
        {"a": ScriptedKernel("a", kernel)},  # type: ignore[dict-item]
        SessionCeiling(device, program, touched_bytes(WORKLOAD)),  # type: ignore[arg-type]
        request,
        None,
        Shuffle(lambda: now.update(slowdown=next(speeds))),  # type: ignore[arg-type]
    )
    point = measure_point(session, WORKLOAD, end_seconds=float("inf"))
    (row,) = point.rows

    assert point.ceiling is not None
    assert point.ceiling.source == READ_ONLY
    assert row.bandwidth_fraction is not None
    assert row.bandwidth_fraction.estimate == pytest.approx(0.25)
    assert row.bandwidth_fraction.low == pytest.approx(0.25)
    assert [each.kernel for each in point.rows] == ["a"]


class Shuffle:
    """Orders that do nothing but tell of each round."""

    def __init__(self, told: Callable[[], object]) -> None:
        self._told = told

    def permutation(self, number: int) -> range:
        self._told()
        return range(number)


def test_what_cannot_run_is_a_row_and_the_rest_goes_on() -> None:
    def breaking() -> float:
        raise RuntimeError("illegal tile\nsecond line")

    device = ScriptedDevice()
    (point,) = bench(
        ScriptedKernel("refused", noisy(1e-3), refuses="too wide"),
        ScriptedKernel("large", noisy(1e-3), bind_error=DeviceOutOfMemory("no room")),
        ScriptedKernel("odd", noisy(1e-3), bind_error=ValueError("shape")),
        ScriptedKernel("breaking", breaking),
        ScriptedKernel("good", noisy(1e-3)),
        device=device,
    ).points
    found = {row.kernel: (row.status.value, row.detail) for row in point.rows}

    assert found == {
        "refused": ("unsupported", "too wide"),
        "large": ("out_of_memory", "no room"),
        "odd": ("failed", "ValueError: shape"),
        "breaking": ("failed", "RuntimeError: illegal tile"),
        "good": ("ok", None),
    }
    assert device.num_open == 0


def test_a_kernel_that_fails_its_check_is_not_timed() -> None:
    samples = []

    def check(kernel: Any, device: Any, workload: Any, *, choice: Choice) -> str | None:
        return "failed its check: relative error 0.31" if kernel.name == "wrong" else None

    (point,) = bench(
        ScriptedKernel("wrong", lambda: samples.append(1) or 1e-3),  # type: ignore[func-returns-value]
        ScriptedKernel("right", noisy(1e-3)),
        check=check,
    ).points

    assert point.rows[0].status is RowStatus.FAILED
    assert point.rows[0].detail == "failed its check: relative error 0.31"
    assert samples == []
    assert point.rows[1].status is RowStatus.OK


def test_a_lost_device_ends_the_bench_and_keeps_what_was_measured() -> None:
    calls = {"left": 40}

    def dying() -> float:
        calls["left"] -= 1
        if calls["left"] < 0:
            raise DeviceLost("gone")
        return 1e-3

    request = BenchRequest(layers=(LAYER,), batch_sizes=(1, 2, 4), dtypes=("bf16",), rounds=30)
    report = bench(ScriptedKernel("a", dying), request=request)

    assert report.lost == "gone"
    assert [point.workload.batch_size for point in report.points] == [1]
    assert [workload.batch_size for workload in report.left_out] == [2, 4]


def test_points_beyond_the_time_are_left_out_by_name() -> None:
    request = BenchRequest(
        layers=(LAYER,), batch_sizes=(1, 2, 4), dtypes=("bf16",), rounds=10, seconds_max=0.15
    )
    report = bench(ScriptedKernel("a", lambda: 1e-2), request=request)

    assert len(report.points) == 1
    assert len(report.left_out) == 2


def test_a_slow_kernel_ends_its_point_with_enough_samples_for_an_interval() -> None:
    request = BenchRequest(layers=(LAYER,), batch_sizes=(1,), dtypes=("bf16",), rounds=1000)
    (point,) = bench(ScriptedKernel("a", lambda: 5.0), request=request).points
    (row,) = point.rows

    assert len(row.samples) == ROUNDS_MIN
    assert row.latency is not None
    assert row.latency.confidence >= 0.95


def test_defaults_are_quick_on_a_cpu_and_the_catalogue_on_a_gpu() -> None:
    from moeprof.bench.request import kernels_of  # noqa: PLC0415
    from moeprof.device.protocol import DeviceIdentity  # noqa: PLC0415

    cpu, gpu = (DeviceIdentity(kind, "d", "u") for kind in ("cpu", "cuda"))

    assert {each.model for each in workloads_of(BenchRequest(), cpu)} == {"mixtral-8x7b-quarter"}
    assert len(workloads_of(BenchRequest(), gpu)) == 4 * 7 * 2
    assert "triton" in kernels_of(BenchRequest(), gpu)
    assert "triton" not in kernels_of(BenchRequest(), cpu)
    assert not STAND_INS & set(kernels_of(BenchRequest(), cpu))
    assert set(kernels_of(BenchRequest(), gpu)) == set(kernel_names()) - STAND_INS
    with pytest.raises(WorkloadError, match="did you mean"):
        kernels_of(BenchRequest(kernels=("torch-lop",)), cpu)


def test_the_same_rows_fall_on_experts_in_every_dtype() -> None:
    request = BenchRequest(layers=(LAYER,), batch_sizes=(4,), dtypes=("bf16", "fp8_block"))
    first, second = workloads_of(request, ScriptedDevice().identity)

    assert first.rows_per_expert == second.rows_per_expert


def test_the_document_is_finite_json_and_the_table_has_every_row() -> None:
    report = bench(
        ScriptedKernel("a", noisy(1e-3), choice=Choice("inner", "2", "file.json")),
        ScriptedKernel("b", noisy(1e-3), refuses="no"),
    )
    document = json.loads(json.dumps(document_of(report), allow_nan=False))
    table = table_of(report)

    assert len(document["points"][0]["rows"][0]["samples"]) == REQUEST.rounds
    assert table.schema == COLUMNS
    assert table["kernel"].to_pylist() == ["a", "b"]
    assert table["kernel_choice"].to_pylist() == ["inner", None]
    assert table["latency_seconds"].to_pylist()[1] is None
    assert table["touched_bytes"].to_pylist() == [touched_bytes(WORKLOAD)] * 2
