from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import TYPE_CHECKING

import pytest
from bench_fakes import ScriptedDevice

from moeprof.bench.intervals import verdict_of
from moeprof.bench.request import workload_of
from moeprof.bench.result import (
    BenchPoint,
    BenchReport,
    BenchRow,
    Ceiling,
    Comparison,
    RowStatus,
    touched_bytes,
)
from moeprof.bench.targets import Held, subject_of, targets
from moeprof.record import Interval
from moeprof.workload.layer import MoELayer
from moeprof.workload.routing import Uniform

if TYPE_CHECKING:
    from collections.abc import Mapping

CEILING = Ceiling(4e12, "read-only kernel")
LARGE = MoELayer(name="large", hidden_size=4096, expert_size=4096, num_experts=8, top_k=2)
MEDIUM = MoELayer(name="medium", hidden_size=2048, expert_size=1024, num_experts=128, top_k=8)


def tight(value: float) -> Interval:
    return Interval(value, value * 0.999, value * 1.001, 0.95)


def point(
    shares: Mapping[str, float | None], layer: MoELayer = LARGE, batch: int = 1
) -> BenchPoint:
    """A point with kernels at shares of the ceiling; None: refused."""
    workload = workload_of(layer, "bf16", batch, pattern=Uniform(), seed=0)
    num_bytes = touched_bytes(workload)
    seconds = {
        name: num_bytes / (share * CEILING.bytes_per_second)
        for name, share in shares.items()
        if share is not None
    }
    rows = tuple(
        BenchRow(name, RowStatus.UNSUPPORTED, "no")
        if share is None
        else BenchRow(
            name,
            RowStatus.OK if share <= 1.02 else RowStatus.IMPOSSIBLE,
            latency=tight(seconds[name]),
            bandwidth_fraction=tight(share),
            l2_state="cold",
        )
        for name, share in shares.items()
    )
    compared = []
    for one, other in permutations(seconds, 2):
        ratio = tight(seconds[one] / seconds[other])
        compared.append(Comparison(one, other, ratio, verdict_of(ratio)))
    return BenchPoint(workload, CEILING, rows, tuple(compared))


def report(*points: BenchPoint) -> BenchReport:
    return BenchReport(ScriptedDevice().identity, points, (), 1.0)


def held(found: BenchReport) -> list[str]:
    return [each.held.value for each in targets(found)]


GOOD = {"moeprof": 0.95, "torch-grouped": 0.5, "triton": 0.7}


def test_all_targets_pass_where_all_are_met() -> None:
    found = report(point(GOOD), point(GOOD, MEDIUM, batch=1))

    assert 30e6 < found.points[1].touched_bytes < 150e6 < found.points[0].touched_bytes
    assert held(found) == ["pass"] * 6


@pytest.mark.parametrize(
    ("shares", "layer", "failed"),
    [
        ({"moeprof": 0.91}, LARGE, [0]),
        ({"moeprof": 0.79, "torch-grouped": 0.4}, MEDIUM, [1, 2]),
        ({"moeprof": 0.95, "torch-grouped": 0.65}, LARGE, [3]),
        ({"moeprof": 0.95, "triton": 0.97}, LARGE, [4]),
        ({"triton": 1.03}, LARGE, [4, 5]),
    ],
)
def test_each_target_fails_alone_where_it_is_missed(
    shares: dict[str, float], layer: MoELayer, failed: list[int]
) -> None:
    found = targets(report(point(GOOD | shares, layer), point(GOOD), point(GOOD, MEDIUM)))
    missed = [place for place, each in enumerate(found) if each.held is Held.FAIL]

    assert [place for place in missed if place != 2 or 2 in failed] == failed


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert held(report()) == ["not measured"] * 6
    assert held(report(point(GOOD | {"moeprof": None})))[:5] == ["not measured"] * 5


def test_a_point_that_failed_keeps_a_target_from_passing() -> None:
    whole = point(GOOD)
    broken = replace(
        whole,
        rows=(BenchRow("moeprof", RowStatus.FAILED, "wrong"), *whole.rows[1:]),
        comparisons=(),
    )
    found = targets(report(whole, broken))

    assert [each.held for each in found[:3]] == [Held.NOT_MEASURED] * 3
    assert (found[0].num_points, found[0].num_wanted) == (1, 2)
    assert found[4].held is Held.NOT_MEASURED


def test_points_that_were_left_out_keep_targets_from_passing() -> None:
    found = report(point(GOOD), point(GOOD, MEDIUM))
    found = replace(found, left_out=(found.points[0].workload,))

    assert held(found)[:5] == ["not measured"] * 5


def test_large_batches_are_not_held_to_be_faster_than_others() -> None:
    slow = point(GOOD | {"moeprof": 0.93, "triton": 0.95}, batch=32)

    assert held(report(point(GOOD), slow, point(GOOD, MEDIUM))) == ["pass"] * 6


def test_a_datasheet_is_no_ceiling_that_was_measured() -> None:
    told = replace(point(GOOD), ceiling=Ceiling(4.8e12, "datasheet"))

    assert held(report(told))[0] == "not measured"


def test_the_geometric_mean_weighs_small_points_alike() -> None:
    found = targets(report(point(GOOD | {"moeprof": 1.0}), point(GOOD | {"moeprof": 0.81}, MEDIUM)))

    assert found[2].achieved == pytest.approx(0.9, rel=1e-6)


def test_moeprofs_dispatching_kernel_is_the_one_held_to_them() -> None:
    both = point({"stream": 0.9, "moeprof": 0.95})

    assert subject_of(report(both)) == "moeprof"
    assert subject_of(report(point({"stream": 0.9}))) == "stream"
    assert subject_of(report(point({"triton": 0.9}))) is None
