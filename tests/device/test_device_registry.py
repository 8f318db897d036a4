from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest
import torch

from moeprof.device.capabilities import capabilities
from moeprof.device.registry import open_device
from moeprof.errors import DeviceUnavailable


@pytest.mark.parametrize("selector", ["gpu", "cuda:", "cuda:x", "sim:", "CPU", "", "cpu:1"])
def test_an_unknown_selector_says_what_would_be_right(selector: str) -> None:
    with pytest.raises(DeviceUnavailable, match="sim:GPU"):
        open_device(selector, seed=0)


def test_auto_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert open_device("auto", seed=0).identity.kind == "cpu"


def test_cuda_without_a_gpu_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)

    with pytest.raises(DeviceUnavailable, match="built without CUDA"):
        open_device("cuda", seed=0)


def test_an_index_beyond_the_last_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    with pytest.raises(DeviceUnavailable, match="2 GPUs"):
        open_device("cuda:7", seed=0)


def test_a_simulated_device_gets_its_selector_and_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("moeprof.device.sim.device")
    module.open_simulated = lambda selector, *, seed: (selector, seed)
    monkeypatch.setitem(sys.modules, "moeprof.device.sim", ModuleType("moeprof.device.sim"))
    monkeypatch.setitem(sys.modules, "moeprof.device.sim.device", module)

    assert open_device("sim:h200-sxm", seed=7) == ("sim:h200-sxm", 7)


def test_the_registries_import_no_torch() -> None:
    code = "import sys, moeprof.device.registry, moeprof.kernel.registry as k; k.kernel_names()"
    check = f"{code}; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_every_capability_says_yes_or_why_not_and_what_to_do() -> None:
    found = capabilities()

    assert {"CUDA", "NVML", "energy counter", "clocks", "die temperature"} <= {
        c.name for c in found
    }
    assert {"RAPL", "CPU temperature", "nvcc", "NVRTC (cuda-core)", "CPU"} <= {
        c.name for c in found
    }
    for capability in found:
        assert capability.detail
        assert capability.available == (capability.remedy is None)
