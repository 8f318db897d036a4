from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from kernel.check.check_examples import CPU, Altered, SmallDevice, scaled, workload

from moeprof.kernel.check.quick import forget_checks, quick_check
from moeprof.kernel.protocol import Choice


@pytest.fixture(autouse=True)
def _fresh() -> None:
    forget_checks()


def test_a_right_kernel_passes_in_the_workloads_own_sizes() -> None:
    kernel = Altered()

    verdict = quick_check(kernel, SmallDevice(), workload())

    assert verdict.passed
    assert {each.layer for each in kernel.bound} == {workload().layer}
    assert {len(each.rows_per_expert) for each in kernel.bound} == {4}


def test_it_is_done_once_for_the_same_sizes_whatever_the_rows() -> None:
    kernel = Altered()
    quick_check(kernel, SmallDevice(), workload())
    num_bound = len(kernel.bound)

    quick_check(kernel, SmallDevice(), workload((0, 1, 1, 2)))

    assert len(kernel.bound) == num_bound


@pytest.mark.parametrize(
    "changed",
    [
        {"workload": workload(dtype="bf16")},
        {"choice": Choice(kernel="another variant")},
        {"device": SmallDevice(identity=replace(CPU, uuid="CPU-other"))},
    ],
    ids=["dtype", "variant", "device"],
)
def test_another_dtype_variant_or_device_is_another_check(changed: dict[str, Any]) -> None:
    kernel = Altered()
    quick_check(kernel, SmallDevice(), workload())
    num_bound = len(kernel.bound)

    more = {"device": SmallDevice(), "workload": workload()} | changed
    quick_check(kernel, more.pop("device"), more.pop("workload"), **more)

    assert len(kernel.bound) == 2 * num_bound


def test_a_kernel_that_is_wrong_for_the_last_expert_only_fails() -> None:
    def wrong_at_the_end(work: Any, buffer_set: int, launch: int) -> None:
        if work.buffers.active[-1].expert == 3:
            scaled(work, buffer_set, launch)

    verdict = quick_check(Altered(wrong_at_the_end), SmallDevice(), workload((2, 1, 0, 0)))

    assert "(all on the last, fp32, 64 x 48)" in verdict.fault


def test_a_gpu_compares_all_rows_as_asked() -> None:
    # The kind alone decides what is compared; the tensors are the CPU's.
    device = SmallDevice(identity=replace(CPU, kind="cuda"))
    asked = workload((300, 5, 0, 9))

    class OnCpu(Altered):
        def bind(self, workload: Any, device: Any, **more: Any) -> Any:
            return super().bind(workload, SmallDevice(), **more)

    kernel = OnCpu()
    verdict = quick_check(kernel, device, asked)

    assert verdict.passed
    assert kernel.bound[0].rows_per_expert == (256, 5, 0, 9)


def test_where_float64_does_not_fit_nothing_is_compared_and_it_is_said() -> None:
    verdict = quick_check(Altered(), SmallDevice(free=1000), workload())

    assert verdict.fault is None
    assert not verdict.passed
    assert "1000 are free" in verdict.refused
