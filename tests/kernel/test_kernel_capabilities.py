from __future__ import annotations

import subprocess
import sys

from moeprof.device.protocol import DeviceIdentity
from moeprof.kernel import capabilities as found
from moeprof.kernel.engines import ENGINE_KERNELS

CPU = DeviceIdentity(kind="cpu", name="test CPU", uuid="CPU-test")


def test_doctor_has_a_line_for_each_of_our_kernels_and_one_for_all_engines() -> None:
    names = [each.name for each in found.capabilities(CPU)]

    assert {"torch-grouped", "stream", "moeprof", "triton"} <= set(names)
    assert not set(names) & set(ENGINE_KERNELS)
    assert names[-1] == "engines' kernels"


def test_doctor_does_not_import_the_engines() -> None:
    code = (
        "import sys; from moeprof.device.protocol import DeviceIdentity as D; "
        "from moeprof.kernel.capabilities import capabilities; "
        "capabilities(D(kind='cpu', name='c', uuid='u')); "
        "sys.exit('transformers' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_kernel_that_runs_nowhere_here_says_why() -> None:
    stream = next(each for each in found.kernel_capabilities(CPU) if each.name == "stream")

    assert stream.dtypes == ()
    assert "runs on NVIDIA GPUs" in str(stream.reason)


def test_on_a_simulated_device_every_kernel_has_a_stand_in() -> None:
    simulated = DeviceIdentity("sim:h200-sxm", "H200", "SIM-x", simulated=True)

    assert all(each.dtypes for each in found.kernel_capabilities(simulated))
