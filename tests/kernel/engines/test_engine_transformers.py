from __future__ import annotations

from typing import Any

import pytest
import torch
from kernel.engines.conftest import PARTIAL, ROUTINGS, a_device, a_workload, an_identity

from moeprof.errors import DeviceOutOfMemory
from moeprof.kernel.engines.transformers_experts import TransformersExperts
from moeprof.kernel.protocol import choice_of
from moeprof.kernel.reference import MAX_RELATIVE_ERROR, relative_error

transformers = pytest.importorskip("transformers")
moe = pytest.importorskip("transformers.integrations.moe")
WAYS = ("grouped", "batched", "eager")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("rows", ROUTINGS.values(), ids=ROUTINGS)
def test_outputs_agree_with_float64(way: str, dtype: str, rows: Any) -> None:
    point = a_workload(rows, dtype, sizes=(64, 48))
    work: Any = TransformersExperts(way).bind(point, a_device("cpu"), l2_state="cold", seed=3)
    last = work.num_buffer_sets - 1

    assert work.output(last).isnan().all()
    assert relative_error(work, last) < MAX_RELATIVE_ERROR[dtype]


@pytest.mark.parametrize("way", WAYS)
def test_experts_of_other_ranks_add_nothing(way: str) -> None:
    point = a_workload(PARTIAL, "fp32", sizes=(64, 48), ep=(2, 1))
    work: Any = TransformersExperts(way).bind(point, a_device("cpu"), l2_state="cold", seed=3)

    assert relative_error(work, 0) < MAX_RELATIVE_ERROR["fp32"]


def test_weights_are_the_banks_own() -> None:
    kernel = TransformersExperts("grouped")
    work: Any = kernel.bind(a_workload(PARTIAL, "fp32"), a_device("cpu"), l2_state="warm", seed=3)
    before = work.buffers.tokens.clone()
    work.launch(0)
    first = work.output(0).clone()
    work.buffers.bank.down.zero_()
    work.launch(0)

    assert first.any()
    assert not work.output(0).any()
    assert torch.equal(before, work.buffers.tokens)


@pytest.mark.parametrize("way", WAYS)
def test_choice_names_transformers_and_its_function(way: str) -> None:
    kernel = TransformersExperts(way)
    choice = choice_of(
        kernel.bind(a_workload(PARTIAL, "fp32"), a_device("cpu"), l2_state="warm", seed=3)
    )

    assert choice.version == transformers.__version__
    assert choice.kernel is not None
    assert choice.kernel.endswith("forward")


@pytest.mark.parametrize("way", WAYS)
def test_each_way_runs_the_function_of_its_name(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    for name, function in moe.ExpertsInterface._global_mapping.items():

        def spy(*args: Any, name: str = name, function: Any = function) -> Any:
            ran.append(name)
            return function(*args)

        monkeypatch.setitem(moe.ExpertsInterface._global_mapping, name, spy)
    TransformersExperts(way).bind(
        a_workload(PARTIAL, "fp32"), a_device("cpu"), l2_state="warm", seed=3
    ).launch(0)

    assert ran == ([] if way == "eager" else [f"{way}_mm"])


def test_eager_is_refused_where_graphs_are_captured() -> None:
    reason = TransformersExperts("eager").refusal(a_workload(PARTIAL), an_identity("cuda"))

    assert reason == "it waits for the GPU in every launch, which a CUDA graph cannot hold"


def test_grouped_refuses_on_a_gpu_what_falls_back_to_a_loop() -> None:
    kernel = TransformersExperts("grouped")

    assert kernel.refusal(a_workload(PARTIAL), an_identity("cuda", "9.0")) is None
    assert kernel.refusal(a_workload(PARTIAL), an_identity("cuda", "8.0")) is not None
    assert kernel.refusal(a_workload(PARTIAL, "fp16"), an_identity("cuda", "9.0")) is not None


def test_batched_counts_the_copies_of_weights_that_it_makes() -> None:
    point = a_workload(PARTIAL, "fp32", sizes=(1024, 1024), batch_size=64)

    with pytest.raises(DeviceOutOfMemory, match="for each of 128 slots"):
        TransformersExperts("batched").bind(
            point, a_device("cpu", free=700_000_000), l2_state="warm", seed=0
        )
