"""The attention pair and the read-only kernel on a real GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from moeprof.device.registry import open_device
from moeprof.kernel.attention import AttentionWorkload
from moeprof.kernel.check.attention import check_attention
from moeprof.kernel.cuda.mla_work import bind_mla, mla_refusal
from moeprof.kernel.cuda.read_only_work import bind_read_only, read_only_refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.gpu


@pytest.fixture
def device() -> Iterator[Any]:
    opened = open_device("cuda:0", seed=0)
    yield opened
    opened.close()


def test_attention_agrees_with_float64(device: Any) -> None:
    if reason := mla_refusal(AttentionWorkload(128, 512, 64, 1, 1), device.identity):
        pytest.skip(reason)  # a pair that cannot be built or bound goes on, and fails
    verdict = check_attention(device)

    assert verdict.fault is None
    assert verdict.passed, verdict.refused


def test_attention_is_timed_in_a_graph(device: Any) -> None:
    workload = AttentionWorkload(128, 512, 64, 8, 4096)
    program = device.prepare(bind_mla(workload, device, l2_state="cold", seed=0))
    seconds = sorted(program.sample() for _ in range(20))[10]
    program.close()

    # Nothing reads faster than the datasheet's 8 TB/s of today's fastest, nor takes a second.
    assert workload.cache_bytes / 8e12 < seconds < 1


def test_every_word_is_read_once(device: Any) -> None:
    if reason := read_only_refusal(device.identity):
        pytest.skip(reason)
    work = bind_read_only(2**28, device)
    for buffer_set in range(work.num_buffer_sets):
        work.launch(buffer_set)
        torch.cuda.synchronize()
        assert work.is_right(buffer_set)
