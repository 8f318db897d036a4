from __future__ import annotations

from dataclasses import replace
from typing import Any, Never

import pytest
import torch

from moeprof.device.cuda import CudaDevice
from moeprof.device.nvml import Nvml
from moeprof.errors import DeviceLost, DeviceOutOfMemory, KernelUnsupported
from moeprof.hardware.catalogue import gpu

UUID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def device(fake_cuda: Any, fake_nvml: Any) -> CudaDevice:
    return CudaDevice(0, nvml=Nvml(UUID, library=fake_nvml))


def test_a_sample_is_seconds_per_launch(device: Any, fake_work: Any) -> None:
    program = device.prepare(fake_work)

    assert program.sample() == pytest.approx(2e-5)


def test_the_graph_holds_whole_rotations_and_lasts_a_millisecond(
    device: Any, fake_work: Any
) -> None:
    program = device.prepare(fake_work)

    assert program.launches_per_sample % fake_work.num_buffer_sets == 0
    assert program.launches_per_sample * 2e-5 >= 1e-3
    captured = fake_work.sets[-program.launches_per_sample :]
    assert captured == [0, 1, 2] * (program.launches_per_sample // 3)


def test_a_long_kernel_is_captured_once_round(device: Any, fake_cuda: Any, fake_work: Any) -> None:
    fake_cuda.launch_seconds = 0.01

    assert device.prepare(fake_work).launches_per_sample == 3


def test_a_very_short_kernel_does_not_make_a_boundless_graph(
    device: Any, fake_cuda: Any, fake_work: Any
) -> None:
    fake_cuda.launch_seconds = 0.0

    assert device.prepare(fake_work).launches_per_sample <= 2048


def test_run_counts_its_launches_and_bounds_the_queue(
    device: Any, fake_cuda: Any, fake_work: Any
) -> None:
    program = device.prepare(fake_work)
    program._clock = lambda: fake_cuda.now
    before = fake_cuda.now

    launches = program.run(0.05)

    assert (fake_cuda.now - before) == pytest.approx(launches * 2e-5)
    assert 0.05 <= fake_cuda.now - before < 0.06
    assert fake_cuda.deepest_queue <= 3
    assert fake_cuda.unfinished == []


def test_closing_frees_the_graph(device: Any, fake_cuda: Any, fake_work: Any) -> None:
    program = device.prepare(fake_work)
    program.close()
    program.close()

    assert fake_cuda.live_graphs == 0


def test_a_kernel_that_waits_is_refused_before_the_capture(
    device: Any, fake_cuda: Any, fake_work: Any
) -> None:
    def wait() -> None:
        if fake_cuda.sync_mode == "error":
            raise RuntimeError("called a synchronizing CUDA operation")

    fake_work.on_launch = wait

    with pytest.raises(KernelUnsupported, match="synchronizing"):
        device.prepare(fake_work)
    assert fake_cuda.sync_mode == "default"


def test_a_capture_that_fails_names_the_root_cause(
    device: Any, fake_cuda: Any, fake_work: Any
) -> None:
    def fail() -> None:
        if fake_cuda.recording is None:
            return
        try:
            raise RuntimeError(  # noqa: TRY301 - as torch chains its errors
                "CUDA error: operation not permitted when stream is capturing\nmore"
            )
        except RuntimeError as error:
            raise RuntimeError("operation failed due to a previous error during capture") from error

    fake_work.on_launch = fail

    with pytest.raises(KernelUnsupported, match=r"not permitted when stream is capturing$"):
        device.prepare(fake_work)


@pytest.mark.parametrize("capturing", [False, True])
def test_out_of_memory_empties_the_cache_and_has_a_name(
    device: Any, fake_cuda: Any, fake_work: Any, *, capturing: bool
) -> None:
    def fail() -> None:
        if capturing == (fake_cuda.recording is not None):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    fake_work.on_launch = fail

    with pytest.raises(DeviceOutOfMemory, match=r"2\.00 GiB"):
        device.prepare(fake_work)
    assert fake_cuda.emptied


def test_a_dead_context_is_a_lost_device(device: Any, fake_work: Any) -> None:
    program = device.prepare(fake_work)

    def fail() -> Never:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    program._graph.replay = fail

    with pytest.raises(DeviceLost, match="illegal memory access"):
        program.sample()
    with pytest.raises(DeviceLost):
        program.run(0.01)


def test_other_errors_of_a_kernel_go_through(device: Any, fake_work: Any) -> None:
    def fail() -> Never:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    fake_work.on_launch = fail

    with pytest.raises(RuntimeError, match="shapes"):
        device.prepare(fake_work)


def test_identity_and_limits_come_from_the_driver(device: Any) -> None:
    assert device.identity.kind == "cuda"
    assert device.identity.uuid == f"GPU-{UUID}"
    assert device.identity.versions["capability"] == "9.0"
    assert device.identity.versions["driver"] == "580.1"
    assert device.l2_bytes == 62_914_560
    assert device.power_limit_watts == pytest.approx(700)
    assert device.free_bytes() == 120


def test_ceilings_are_the_datasheets(device: Any) -> None:
    specification = gpu("h200-sxm")
    device.specification = specification

    assert device.ceilings("bf16").source == "datasheet"
    assert device.ceilings("bf16").bytes_per_second == specification.memory_bytes_per_second
    assert device.ceilings("int3") is None
    device.specification = None
    assert device.ceilings("bf16") is None


def test_energy_is_the_counter_or_a_reason(device: Any, fake_cuda: Any, fake_nvml: Any) -> None:
    assert device.energy_counter.source == "nvml_counter"
    assert device.energy_counter.read() == pytest.approx(5000)

    fake_nvml.answers["nvmlInit"] = fake_nvml.NVMLError(9)
    without = CudaDevice(0, nvml=Nvml(UUID, library=fake_nvml))
    assert without.energy_counter is None
    assert "Driver Not Loaded" in without.energy_absent_reason
    assert replace(without.state(), at_seconds=0).die_celsius is None
