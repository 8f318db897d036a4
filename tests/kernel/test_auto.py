from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kernel.check.check_examples import CPU, Altered, SmallDevice, scaled, workload

from moeprof.device.protocol import DeviceIdentity
from moeprof.errors import DeviceLost, KernelUnsupported
from moeprof.kernel.absent import AbsentKernel
from moeprof.kernel.auto import AutoKernel
from moeprof.kernel.check.quick import forget_checks
from moeprof.kernel.check.verdict import CheckFailed
from moeprof.kernel.opening import open_kernel
from moeprof.kernel.protocol import Choice, choice_of
from moeprof.kernel.registry import STAND_INS, candidate_names, kernel_names

SIMULATED = DeviceIdentity("sim:h200-sxm", "H200", "SIM-x", simulated=True)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    forget_checks()


def taking(device: SmallDevice, seconds: float, name: str, **more: Any) -> Altered:
    def wait(work: Any, buffer_set: int, launch: int) -> None:
        device.seconds += seconds

    return Altered(wait, name=name, **more)


def bind(auto: AutoKernel, device: Any, rows: tuple[int, ...] = (1, 2, 0, 1)) -> Any:
    return auto.bind(workload(rows), device, l2_state="warm", seed=0)


def test_the_fastest_is_taken_and_named() -> None:
    device = SmallDevice()
    auto = AutoKernel(
        {name: taking(device, seconds, name) for name, seconds in (("a", 3), ("b", 1), ("c", 2))}
    )

    work = bind(auto, device)
    work.launch(0)

    assert choice_of(work).kernel == "b"
    assert work.output(0).isfinite().all()
    assert work.num_buffer_sets == 1


def test_of_equally_fast_ones_the_first_is_taken() -> None:
    device = SmallDevice()
    auto = AutoKernel({name: taking(device, 1, name) for name in ("z", "a")})

    assert choice_of(bind(auto, device)).kernel == "z"


def test_a_wrong_kernel_is_not_taken_however_fast() -> None:
    device = SmallDevice()
    auto = AutoKernel({"wrong": Altered(scaled, name="wrong"), "right": taking(device, 9, "right")})

    assert choice_of(bind(auto, device)).kernel == "right"


def test_what_the_fastest_itself_chose_is_told_too() -> None:
    device = SmallDevice()
    inner = Choice(kernel="r8-b2", version="2.0", config_file="table.json")
    auto = AutoKernel({"tuned": taking(device, 1, "tuned", choice=inner)})

    assert choice_of(bind(auto, device)) == Choice("tuned/r8-b2", "2.0", "table.json")


def test_a_choice_is_remembered_for_the_same_rows_only() -> None:
    device = SmallDevice()
    first, second = taking(device, 1, "first"), taking(device, 2, "second")
    auto = AutoKernel({"first": first, "second": second})
    bind(auto, device)
    num_bound = len(second.bound)

    bind(auto, device)
    assert len(second.bound) == num_bound

    bind(auto, device, (4, 0, 0, 0))
    assert len(second.bound) == num_bound + 1


def test_where_all_are_wrong_the_check_has_failed() -> None:
    auto = AutoKernel({"a": Altered(scaled, name="a"), "b": AbsentKernel("b", "not installed")})

    with pytest.raises(CheckFailed, match=r"a: failed its check: relative.*b: not installed"):
        bind(auto, SmallDevice())


def test_where_all_refuse_it_says_why_of_each() -> None:
    reasons = {"a": "no GPU", "b": "not installed", "c": "no GPU"}
    auto = AutoKernel({name: AbsentKernel(name, reason) for name, reason in reasons.items()})

    assert auto.refusal(workload(), CPU) == "no kernel takes it; a, c: no GPU; b: not installed"
    with pytest.raises(KernelUnsupported, match="a, c: no GPU; b: not installed"):
        bind(auto, SmallDevice())


def test_a_candidate_that_breaks_is_passed_over_and_a_lost_device_is_not() -> None:
    device = SmallDevice()

    def breaks(work: Any, buffer_set: int, launch: int) -> None:
        raise ValueError("no such tile")

    def loses(work: Any, buffer_set: int, launch: int) -> None:
        raise DeviceLost("gone")

    auto = AutoKernel({"broken": Altered(breaks, name="broken"), "right": taking(device, 1, "r")})
    assert choice_of(bind(auto, device)).kernel == "right"

    with pytest.raises(DeviceLost):
        bind(AutoKernel({"loses": Altered(loses, name="loses")}), device)


def test_emulations_are_never_chosen_from() -> None:
    assert set(kernel_names()) >= STAND_INS
    assert not STAND_INS & set(candidate_names("cpu"))
    assert "triton" in candidate_names("cuda")
    assert "triton" not in candidate_names("cpu")


def test_on_a_simulated_device_it_stands_for_the_tuned_kernel() -> None:
    device: Any = SimpleNamespace(identity=SIMULATED)
    auto = open_kernel("auto", device)

    work: Any = auto.bind(workload(), device, l2_state="cold", seed=0)

    assert auto.name == "auto"
    assert work.kernel == "moeprof"
    assert choice_of(work).kernel == "moeprof"
