from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from moeprof.device.protocol import DeviceIdentity
from moeprof.errors import ExitCode
from moeprof.kernel.attention import MAX_RELATIVE_ERROR, allocate_attention, reference_attention
from moeprof.kernel.check import attention
from moeprof.report.kernels_check import CheckRequest, show_check

CPU: Any = SimpleNamespace(
    identity=DeviceIdentity(kind="cpu", name="test CPU", uuid="CPU-test"),
    torch_device=torch.device("cpu"),
    l2_bytes=1000,
    free_bytes=lambda: 10**9,
)


def bound(factor: float) -> Any:
    """An attention pair that is right up to a factor."""

    def bind(workload: Any, device: Any, *, l2_state: Any, seed: int) -> Any:
        buffers = allocate_attention(workload, device, l2_state=l2_state, seed=seed)

        def launch(buffer_set: int) -> None:
            buffers.outputs[buffer_set] = factor * reference_attention(buffers, buffer_set)

        return SimpleNamespace(
            buffers=buffers, launch=launch, output=lambda buffer_set: buffers.outputs[buffer_set]
        )

    return bind


def test_a_right_pair_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "bind_mla", bound(1.0))
    verdict = attention.check_attention(CPU)

    assert verdict.passed
    assert all(0 < case.relative_error_fraction < MAX_RELATIVE_ERROR for case in verdict.cases)


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_a_wrong_pair_fails_in_every_case(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    monkeypatch.setattr(attention, "bind_mla", bound(factor))

    assert all(case.fault for case in attention.check_attention(CPU).cases)


def test_without_a_gpu_it_is_refused_with_the_reason() -> None:
    assert "not on cpu" in str(attention.check_attention(CPU).refused)


def test_it_is_a_name_of_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    asked = CheckRequest(kernels=("mla",), device="cpu")

    assert show_check(asked, as_json=False) is ExitCode.DEVICE
    assert "mla" in capsys.readouterr().out
