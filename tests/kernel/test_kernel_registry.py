from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from types import SimpleNamespace
from typing import Any

import pytest

from moeprof.device.protocol import DeviceIdentity
from moeprof.device.simulated_work import SimulatedWork
from moeprof.errors import KernelUnsupported, WorkloadError
from moeprof.kernel import registry
from moeprof.kernel.capabilities import capabilities
from moeprof.kernel.opening import open_kernel
from moeprof.kernel.registry import kernel_names
from moeprof.kernel.torch_loop import TorchLoop
from moeprof.workload.layer import MoELayer
from moeprof.workload.workload import Workload

CPU = DeviceIdentity("cpu", "CPU", "CPU-x")
SIMULATED = DeviceIdentity("sim:h200-sxm", "H200", "SIM-x", simulated=True)


def on(identity: DeviceIdentity) -> Any:
    return SimpleNamespace(identity=identity)


def workload(rows: Any) -> Workload:
    layer = MoELayer(name="l", hidden_size=8, expert_size=8, num_experts=2, top_k=1)
    return Workload("m", layer, "fp8", "bf16", 4, "given", 0, "none", 1, 0, 1, rows)


@pytest.fixture
def third_party(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(**targets: str) -> None:
        points = EntryPoints(
            EntryPoint(name, target, "moeprof.kernels") for name, target in targets.items()
        )
        monkeypatch.setattr(registry, "entry_points", lambda group: points.select(group=group))

    return install


def test_built_in_kernels_are_known() -> None:
    assert {"torch-loop", "torch-grouped"} <= set(kernel_names())
    assert open_kernel("torch-loop", on(CPU)).name == "torch-loop"


def test_an_unknown_kernel_names_the_nearest() -> None:
    with pytest.raises(WorkloadError, match="torch-loop"):
        open_kernel("torch-lop", on(CPU))


def test_other_packages_add_kernels(third_party: Any) -> None:
    third_party(mine="moeprof.kernel.torch_loop:TorchLoop")

    assert "mine" in kernel_names()
    assert isinstance(open_kernel("mine", on(CPU)), TorchLoop)


def test_a_kernel_is_called_what_it_is_registered_as(third_party: Any) -> None:
    third_party(inherits="moeprof.kernel.torch_loop:TorchLoop", nameless="types:SimpleNamespace")

    # What a check finds is remembered by name: nobody may answer for another.
    assert open_kernel("inherits", on(CPU)).name == "inherits"
    assert open_kernel("nameless", on(CPU)).name == "nameless"
    assert open_kernel("torch-loop", on(CPU)).name == "torch-loop"


def test_a_third_party_kernel_that_fails_is_a_line_of_the_doctor(third_party: Any) -> None:
    third_party(broken="no_such_module:Kernel")
    found = {capability.name: capability for capability in capabilities(CPU)}

    assert not found["broken"].available
    assert "no_such_module" in found["broken"].detail
    assert found["torch-loop"].available
    assert "bf16" in found["torch-loop"].detail


def test_any_name_on_a_simulated_device_is_priced_not_run(third_party: Any) -> None:
    third_party(mine="no_such_module:Kernel")
    kernel = open_kernel("mine", on(SIMULATED))

    work = kernel.bind(workload((1, 2)), on(SIMULATED), l2_state="cold", seed=0)

    assert work == SimulatedWork(workload((1, 2)), "mine", "cold")
    assert kernel.versions() == {}


def test_a_simulated_kernel_refuses_what_needs_no_data_to_know() -> None:
    kernel = open_kernel("torch-loop", on(SIMULATED))

    assert kernel.refusal(workload((1, 0)), SIMULATED) is None
    with pytest.raises(KernelUnsupported, match="no rows"):
        kernel.bind(workload((0, 0)), on(SIMULATED), l2_state="cold", seed=0)
