from __future__ import annotations

from typing import Any

import pytest
from kernel.check.check_examples import Altered, SmallDevice, scaled

from moeprof.errors import DeviceLost
from moeprof.kernel.check.kernel import check_kernel
from moeprof.kernel.check.routings import cases, routings
from moeprof.kernel.registry import load_kernel
from moeprof.workload.layer import MoELayer

LAYER = MoELayer("l", hidden_size=256, expert_size=128, num_experts=8, top_k=2)


def check(after: Any = lambda *_: None, dtype: str = "fp32") -> Any:
    return check_kernel(Altered(after), SmallDevice(), dtypes=(dtype,))


@pytest.mark.parametrize("kernel", ["torch-loop", "torch-grouped"])
def test_a_right_kernel_passes_in_every_dtype_it_takes(kernel: str) -> None:
    verdict = check_kernel(load_kernel(kernel), SmallDevice())

    assert verdict.passed
    assert {case.dtype for case in verdict.compared} == {"fp32", "bf16", "fp16"}
    assert 0 < verdict.worst.relative_error_fraction < verdict.worst.bound_fraction


def test_a_wrong_result_is_told_with_its_size_and_where() -> None:
    verdict = check(scaled, "bf16")

    assert not verdict.passed
    assert verdict.fault.startswith("relative error 0.3 exceeds 0.03 (random, bf16, 256 x 128")


def test_what_is_left_unwritten_is_seen_because_it_was_poisoned() -> None:
    def forgets_the_last_row(work: Any, buffer_set: int, launch: int) -> None:
        work.output(buffer_set)[-1] = float("nan")

    assert "unwritten or not finite" in check(forgets_the_last_row).fault


def test_a_row_that_is_never_written_shows_although_memory_holds_the_right_values() -> None:
    def writes_nothing_twice(work: Any, buffer_set: int, launch: int) -> None:
        if launch == 1:
            work.kept = work.output(buffer_set).clone()
        elif launch == 2:
            work.output(buffer_set).fill_(float("nan"))

    assert check(writes_nothing_twice).fault.startswith("launch 2 of buffer set 0: ")


def test_a_kernel_that_is_right_only_once_fails() -> None:
    def worse_the_second_time(work: Any, buffer_set: int, launch: int) -> None:
        if launch > 1:
            scaled(work, buffer_set, launch)

    assert check(worse_the_second_time).fault.startswith("launch 2 of buffer set 0: relative")


def test_a_kernel_that_is_right_in_the_first_buffer_set_only_fails() -> None:
    def worse_elsewhere(work: Any, buffer_set: int, launch: int) -> None:
        if buffer_set:
            scaled(work, buffer_set, launch)

    assert "of buffer set 1: relative" in check(worse_elsewhere).fault


def test_one_wrong_row_among_many_is_not_averaged_away() -> None:
    def one_wrong_row(work: Any, buffer_set: int, launch: int) -> None:
        output = work.output(buffer_set)
        if len(output) > 150:
            output[7] *= 1.2

    assert "of row 7 exceeds" in check(one_wrong_row, "bf16").fault


def test_a_kernel_that_damages_its_inputs_is_not_judged_by_the_damage() -> None:
    def spoils_its_rows(work: Any, buffer_set: int, launch: int) -> None:
        work.buffers.rows[buffer_set].mul_(2)

    assert check(spoils_its_rows).fault.startswith("launch 2 of buffer set 0: relative")


def test_what_a_kernel_raises_is_its_fault_and_not_a_crash() -> None:
    def breaks(work: Any, buffer_set: int, launch: int) -> None:
        raise ValueError("no such tile\nand more")

    verdict = check(breaks)

    assert verdict.fault.startswith("ValueError: no such tile (random")
    assert all(case.fault for case in verdict.cases)


def test_a_refusal_is_no_fault() -> None:
    verdict = check(dtype="fp8_block")

    assert verdict.fault is None
    assert not verdict.passed
    assert "not fp8_block" in verdict.refused


def test_work_without_data_cannot_be_compared_and_says_so() -> None:
    class Bare(Altered):
        def bind(self, workload: Any, device: Any, **more: Any) -> Any:
            return object()

    assert "neither data nor output" in check_kernel(Bare(), SmallDevice()).refused


def test_a_lost_device_ends_the_check_with_the_case_that_lost_it() -> None:
    def lost(work: Any, buffer_set: int, launch: int) -> None:
        raise DeviceLost("the GPU was lost")

    verdict = check(lost)

    assert len(verdict.cases) == 1
    assert verdict.fault.startswith("the GPU was lost")


def test_every_kind_of_routing_is_there() -> None:
    found = {each.name: each.rows_per_expert for each in routings(LAYER, seed=0, thorough=False)}

    assert found["empty experts"].count(0) == 6
    assert max(found["hot"]) == 40
    assert min(found["hot"]) == 1
    assert sum(map(bool, found["all on one"])) == 1
    assert found["all on the last"] == (0,) * 7 + (2,)
    assert sum(found["one row"]) == 1
    assert max(found["more rows than a tile"]) > 128
    assert len(found["partial rank"]) < LAYER.num_experts


def test_the_seed_decides_the_random_routings() -> None:
    drawn = [tuple(routings(LAYER, seed=seed, thorough=True)) for seed in (1, 1, 2)]

    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) > 30


def test_a_gpu_gets_layers_of_the_catalogue_and_a_cpu_small_ones() -> None:
    sizes = {
        kind: {case.workload.layer.hidden_size for case in cases("bf16", kind=kind, **options)}
        for kind, options in (
            ("cpu", {"seed": 0, "thorough": False}),
            ("cuda", {"seed": 0, "thorough": False}),
        )
    }

    assert sizes["cpu"] == {256, 320, 640}
    assert sizes["cuda"] > sizes["cpu"]
    assert {2880, 7168} <= sizes["cuda"]
