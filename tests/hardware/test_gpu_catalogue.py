"""Claims about the GPUs in the catalogue."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from moeprof.errors import HardwareError
from moeprof.hardware import catalogue
from moeprof.hardware.catalogue import gpu, gpu_names, gpu_of_device
from moeprof.hardware.gpu import GPU, Link

if TYPE_CHECKING:
    from pathlib import Path

LANES_PER_SM = {"a100-sxm-80gb": 64, "h100-sxm": 128, "h200-sxm": 128, "b200": 128, "l40s": 128}
LANES_PER_SM["rtx-pro-6000-server"] = 128
BUS_BITS = {"a100-sxm-80gb": 5120, "h100-sxm": 5120, "h200-sxm": 6144, "b200": 7680, "l40s": 384}
TRANSFERS_PER_CLOCK = 2


def test_every_asked_for_gpu_is_in_the_catalogue() -> None:
    assert gpu_names() == (
        "a100-sxm-80gb",
        "b200",
        "b300",
        "deployment-card",
        "gb200",
        "gb300",
        "h100-sxm",
        "h200-sxm",
        "l40s",
        "rtx-pro-6000-server",
    )


@pytest.mark.parametrize("name", LANES_PER_SM)
def test_peak_fp32_follows_from_lanes_and_clock(name: str) -> None:
    card = gpu(name)

    assert card.num_sms is not None
    assert card.sm_clock_hertz_max is not None
    computed = card.num_sms * LANES_PER_SM[name] * 2 * card.sm_clock_hertz_max
    assert card.peak_flops_per_second["fp32"] == pytest.approx(computed, rel=0.01)


@pytest.mark.parametrize("name", BUS_BITS)
def test_memory_bandwidth_follows_from_bus_and_clock(name: str) -> None:
    card = gpu(name)

    assert card.memory_clock_hertz is not None
    computed = BUS_BITS[name] / 8 * card.memory_clock_hertz * TRANSFERS_PER_CLOCK
    assert card.memory_bytes_per_second == pytest.approx(computed, rel=0.025)


@pytest.mark.parametrize(
    "name",
    ["h100-sxm", "h200-sxm", "b200", "b300", "gb200", "gb300", "l40s", "rtx-pro-6000-server"],
)
def test_peaks_are_dense_so_fp8_is_twice_bf16(name: str) -> None:
    peaks = gpu(name).peak_flops_per_second

    assert peaks["fp8"] == pytest.approx(2 * peaks["bf16"], rel=0.02)
    assert peaks["fp16"] == peaks["bf16"]


def test_an_h200_is_an_h100_with_more_memory() -> None:
    h100, h200 = gpu("h100-sxm"), gpu("h200-sxm")

    assert h200.peak_flops_per_second == h100.peak_flops_per_second
    assert h200.memory_bytes_per_second == 4.8e12
    assert h200.memory_bytes > 1.7 * h100.memory_bytes
    assert h200.scale_up == Link("NVLink 4", 450e9)


@pytest.mark.parametrize("name", ["b200", "b300", "gb200", "gb300", "rtx-pro-6000-server"])
def test_blackwell_multiplies_fp4_at_twice_fp8_or_faster(name: str) -> None:
    peaks = gpu(name).peak_flops_per_second

    assert peaks["fp4"] >= 2 * peaks["fp8"]


def test_an_a100_has_no_fp8_peak() -> None:
    assert "fp8" not in gpu("a100-sxm-80gb").peak_flops_per_second


def test_an_unknown_quantity_is_absent_not_zero() -> None:
    card = gpu("deployment-card")

    assert card.peak_flops_per_second == {"bf16": 400e12}
    assert card.achievable_flops_fraction == 0.6
    assert card.achievable_bandwidth_fraction == 0.8
    assert card.memory_bytes == 64_000_000_000
    assert (card.l2_bytes, card.power_limit_watts, card.scale_up, card.num_sms) == (None,) * 4


def test_a_device_is_recognised_by_the_name_that_its_driver_reports() -> None:
    assert gpu_of_device("NVIDIA H200") == gpu("h200-sxm")
    assert gpu_of_device("NVIDIA H100 80GB HBM3") == gpu("h100-sxm")


def test_a_device_outside_the_catalogue_is_nobody() -> None:
    assert gpu_of_device("NVIDIA H100 PCIe") is None
    assert gpu_of_device("") is None


def test_no_two_gpus_share_a_device_name() -> None:
    device_names = [device for name in gpu_names() for device in gpu(name).device_names]

    assert len(device_names) == len(set(device_names))


def test_an_unknown_gpu_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(HardwareError, match="unknown GPU 'h200'") as refused:
        gpu("h200")

    assert "did you mean 'h200-sxm'?" in refused.value.message
    assert refused.value.hint is not None
    assert "l40s" in refused.value.hint


def test_a_gpu_may_be_given_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((catalogue.folder() / "l40s.toml").read_text())

    assert gpu(str(path)).name == "mine"
    assert gpu(str(path)).memory_bytes == gpu("l40s").memory_bytes


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("value = 350.0", "value = 0.0", "power_limit_watts must be above 0, got 0.0"),
        ("value = 8.64e11", "value = -1", "memory_bytes_per_second must be above 0, got -1"),
        ("value = 3.2e10", "value = 0", "bytes_per_second must be above 0, got 0"),
        ("value = 7.33e14", "value = 0", "peak_flops_per_second.fp8 must be above 0, got 0"),
        ('name = "PCIe 4.0 x16"\n', "", "scale_up must have a name and bytes_per_second"),
    ],
)
def test_an_impossible_gpu_file_is_refused_with_its_path(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = tmp_path / "wrong.toml"
    text = (catalogue.folder() / "l40s.toml").read_text()
    assert old in text
    path.write_text(text.replace(old, new))

    with pytest.raises(HardwareError, match=re.escape(str(path))) as refused:
        gpu(str(path))

    assert said in refused.value.message


def test_a_fraction_above_one_is_refused() -> None:
    with pytest.raises(HardwareError, match=r"must lie in 0\.\.1, got 80"):
        GPU("mine", (), {"bf16": 1e12}, 1e12, 1, achievable_flops_fraction=80)


def test_a_gpu_without_any_peak_is_refused() -> None:
    with pytest.raises(HardwareError, match="at least one number format"):
        GPU("mine", (), {}, 1e12, 1)
