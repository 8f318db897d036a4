"""Claims about what one simulated launch costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from device.sim import bench
from hypothesis import given
from hypothesis import strategies as st

from moeprof.device.sim.timing import LaunchCost, launch_cost
from moeprof.errors import KernelUnsupported

if TYPE_CHECKING:
    from moeprof.device.simulated_work import SimulatedWork

TRUTH = bench.truth()
CELSIUS = 50.0


def seconds(work: SimulatedWork) -> float:
    return launch_cost(TRUTH, work).seconds(TRUTH.sm_clock_hertz_max, CELSIUS)


def cost(*, rows: tuple[int, ...] = bench.DECODE_ROWS, **changes: float) -> LaunchCost:
    return launch_cost(bench.truth(**changes), bench.work(rows))


@pytest.mark.parametrize("kernel", ["grouped", "torch-loop"])
@given(data=st.data(), rows=st.lists(st.integers(0, 300), min_size=1, max_size=32))
def test_more_active_experts_never_take_less_time(
    kernel: str, data: st.DataObject, rows: list[int]
) -> None:
    giver = data.draw(st.integers(0, len(rows) - 1))
    rows[giver] += 2
    moved = data.draw(st.integers(1, rows[giver] - 1))
    spread = [*rows, moved]
    spread[giver] -= moved

    few = bench.work((*rows, 0), kernel=kernel)
    many = bench.work(tuple(spread), kernel=kernel)

    assert many.workload.num_rows == few.workload.num_rows
    assert many.workload.num_active_experts == few.workload.num_active_experts + 1
    assert seconds(many) >= seconds(few)


@given(rows=st.lists(st.integers(0, 300), min_size=1, max_size=32), data=st.data())
def test_one_more_row_never_takes_less_time(rows: list[int], data: st.DataObject) -> None:
    more = list(rows)
    more[data.draw(st.integers(0, len(rows) - 1))] += 1

    assert seconds(bench.work(tuple(more))) >= seconds(bench.work(tuple(rows)))


def test_decode_takes_the_time_of_reading_its_active_experts() -> None:
    work = bench.work()
    reading_seconds = work.workload.weight_bytes / TRUTH.bytes_per_second

    assert seconds(work) == pytest.approx(reading_seconds, rel=0.05)
    assert seconds(work) > reading_seconds


def test_rows_within_a_tile_cost_no_compute_and_the_next_one_costs_a_tile() -> None:
    one, full, over = (cost(rows=(rows,) * 128) for rows in (1, 64, 65))

    assert one.compute_seconds == full.compute_seconds
    assert over.compute_seconds == pytest.approx(2 * full.compute_seconds)


def test_full_tiles_reach_the_achievable_flops() -> None:
    work = bench.work(bench.DENSE_ROWS)

    compute_seconds = launch_cost(TRUTH, work).compute_seconds

    rate = work.workload.flops / compute_seconds
    assert rate == pytest.approx(TRUTH.flops_per_second["bf16"], rel=1e-9)


def test_compute_slows_with_the_clock_and_memory_does_not() -> None:
    decode, dense = cost(), cost(rows=bench.DENSE_ROWS)
    full, half = TRUTH.sm_clock_hertz_max, TRUTH.sm_clock_hertz_max / 2

    assert decode.seconds(half, CELSIUS) == decode.seconds(full, CELSIUS)
    assert dense.seconds(half, CELSIUS) > 1.9 * dense.seconds(full, CELSIUS)


def test_a_loop_over_experts_pays_launches_for_each_active_expert() -> None:
    extra_seconds = seconds(bench.work(kernel="torch-loop")) - seconds(bench.work())

    expected = 64 * TRUTH.launches_per_active_expert["torch-loop"] * TRUTH.launch_seconds
    assert extra_seconds == pytest.approx(expected)


def test_warm_work_is_faster_by_what_the_cache_holds() -> None:
    small, large = (1,) * 2 + (0,) * 126, (1,) * 128

    small_speedup = seconds(bench.work(small)) / seconds(bench.work(small, l2_state="warm"))
    large_speedup = seconds(bench.work(large)) / seconds(bench.work(large, l2_state="warm"))

    assert small_speedup > large_speedup > 1


def test_temperature_alone_changes_latency_only_if_the_truth_says_so() -> None:
    clock = TRUTH.sm_clock_hertz_max
    warmer = cost(latency_fraction_per_celsius=0.001)

    assert cost().seconds(clock, 40.0) == cost().seconds(clock, 80.0)
    assert warmer.seconds(clock, 70.0) == pytest.approx(1.01 * warmer.seconds(clock, 60.0))


def test_a_rank_without_rows_still_pays_its_launches() -> None:
    expected = TRUTH.fixed_launches * TRUTH.launch_seconds

    assert seconds(bench.work((0,) * 16)) == pytest.approx(expected)


def test_a_dtype_that_the_gpu_lacks_is_unsupported() -> None:
    with pytest.raises(KernelUnsupported, match="does not compute in fp8, only in bf16"):
        bench.device().prepare(bench.work(dtype="fp8"))
