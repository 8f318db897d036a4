from __future__ import annotations

from typing import Any

import pytest
from bench_fakes import LAYER, ScriptedDevice, ScriptedKernel

from moeprof.bench.request import BenchRequest
from moeprof.bench.tune import tunable, tune, variants_named
from moeprof.errors import KernelUnsupported, UsageError

REQUEST = BenchRequest(layers=(LAYER,), batch_sizes=(1, 4), dtypes=("bf16",))


def kernels(**seconds: float) -> dict[str, Any]:
    # Far above the time that the device takes to read the layer.
    return {name: ScriptedKernel(name, lambda s=each: s) for name, each in seconds.items()}


def test_the_fastest_variant_is_kept_for_every_point() -> None:
    found = tune(
        REQUEST,
        ScriptedDevice(),  # type: ignore[arg-type]
        architecture="sm_90a",
        kernels=kernels(r8=3e-3, r16=2e-3, r32=4e-3),
        check=None,
    )

    assert [(each.variant, each.shape.num_tokens) for each in found.entries] == [
        ("r16", 1),
        ("r16", 4),
    ]
    assert found.entries[0].shape.architecture == "sm_90a"
    assert found.entries[0].latency_seconds == pytest.approx(2e-3)


def test_a_wrong_variant_does_not_win_and_is_named() -> None:
    def check(kernel: Any, device: Any, workload: Any, *, choice: Any) -> str | None:
        return "relative error 0.3" if kernel.name == "r16" else None

    found = tune(
        REQUEST,
        ScriptedDevice(),  # type: ignore[arg-type]
        architecture="sm_90a",
        kernels=kernels(r8=3e-3, r16=2e-3),
        check=check,
    )

    assert {each.variant for each in found.entries} == {"r8"}
    assert found.wrong == {"r16": "relative error 0.3"}


def test_an_impossibly_fast_variant_does_not_win() -> None:
    found = tune(
        REQUEST,
        ScriptedDevice(),  # type: ignore[arg-type]
        architecture="sm_90a",
        kernels=kernels(r8=3e-3, lazy=1e-9),
        check=None,
    )

    assert {each.variant for each in found.entries} == {"r8"}


def test_tuning_without_a_gpu_is_refused_with_the_reason() -> None:
    with pytest.raises(KernelUnsupported, match="run on NVIDIA GPUs, and a scripted device is cpu"):
        tunable(ScriptedDevice())  # type: ignore[arg-type]


def test_a_variant_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean r16"):
        variants_named(kernels(r16=1.0), ("r1",))
