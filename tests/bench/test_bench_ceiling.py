from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
from bench_fakes import ScriptedDevice, ScriptedWork

from moeprof.bench import ceiling
from moeprof.bench.ceiling import READ_ONLY, open_ceiling
from moeprof.device.protocol import DeviceIdentity
from moeprof.errors import DeviceLost, KernelUnsupported
from moeprof.kernel.cuda.read_only_work import ReadOnlyWork, bind_read_only

GPU = DeviceIdentity("cuda", "a GPU", "gpu-0")


class Reading(ScriptedWork):
    def __init__(self, num_bytes: int, *, right: bool) -> None:
        super().__init__(lambda: 1e-3)
        self.read_bytes = num_bytes
        self.right = right

    def is_right(self, buffer_set: int) -> bool:
        return self.right


def with_kernel(monkeypatch: pytest.MonkeyPatch, bind: Any) -> Any:
    module = SimpleNamespace(bind_read_only=bind)
    monkeypatch.setattr(ceiling, "import_module", lambda name: module)
    return open_ceiling(ScriptedDevice(identity=GPU, l2_bytes=60_000_000))  # type: ignore[arg-type]


def test_a_gpus_ceiling_is_what_the_read_only_kernel_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    found = with_kernel(monkeypatch, lambda num_bytes, device: Reading(num_bytes, right=True))

    assert found.launch_bytes >= 10 * 60_000_000
    assert found.from_samples([1e-3] * 20).source == READ_ONLY
    assert found.from_samples([1e-3] * 20).bytes_per_second == pytest.approx(
        found.launch_bytes / 1e-3
    )


def test_a_read_only_kernel_that_leaves_words_out_is_no_ceiling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = with_kernel(monkeypatch, lambda num_bytes, device: Reading(num_bytes, right=False))

    assert found.program is None
    assert found.absent_reason == "the read-only kernel did not read every word"
    assert found.without_kernel("bf16").source == "measured"


def test_without_the_kernel_the_reason_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(num_bytes: int, device: Any) -> Any:
        raise KernelUnsupported("cuda-core is missing")

    assert with_kernel(monkeypatch, refusing).absent_reason == "cuda-core is missing"


def test_a_gpu_that_is_lost_is_no_missing_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def losing(num_bytes: int, device: Any) -> Any:
        raise DeviceLost("gone")

    with pytest.raises(DeviceLost):
        with_kernel(monkeypatch, losing)


def test_the_real_kernel_is_asked_as_it_wants_to_be() -> None:
    inspect.signature(bind_read_only).bind(2**30, object())

    assert callable(ReadOnlyWork.is_right)
    assert "self.read_bytes = " in inspect.getsource(ReadOnlyWork)
