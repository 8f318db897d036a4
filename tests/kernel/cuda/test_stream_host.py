"""The streaming kernel's own text, run on the CPU and compared with float64."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
import torch
from kernel.cuda.stagewise import CPU, Stages, stages, workload

from moeprof.kernel import bank
from moeprof.kernel.buffers import allocate
from moeprof.kernel.cuda import host, stream
from moeprof.kernel.cuda.host_experts import HostExperts, HostWork
from moeprof.kernel.reference import MAX_RELATIVE_ERROR, relative_error

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(host.refusal() is not None, reason=str(host.refusal()))

MAX_ERROR = 1e-4
ROUTINGS_OF_A_CASE = 250
ROUTINGS = {
    "random": (1, 3, 0, 2, 5, 0, 1, 4),
    "empty experts": (0, 0, 2, 0, 0, 0, 0, 1),
    "hot": (1, 70, 1, 1, 1, 1, 1, 1),
    "all on one": (0, 0, 0, 0, 0, 17, 0, 0),
    "all on the last": (0, 0, 0, 0, 0, 0, 0, 2),
    "one row": (1, 0, 0, 0, 0, 0, 0, 0),
    "partial rank": (2, 0, 1),
}


@pytest.fixture(autouse=True)
def _no_banks() -> Iterator[None]:
    yield
    bank.clear_banks()


def launched(
    given: Any, rows_at_a_time: int, *, num_blocks: int, seed: int
) -> tuple[HostWork, Stages]:
    buffers = allocate(given, CPU, l2_state="cold", seed=seed, combined=True)
    buffers.hidden.fill_(float("nan"))
    settings = stream.StreamSettings(given.weight_dtype, rows_at_a_time, 1)
    work = HostWork(buffers, settings, seed=seed, num_blocks=num_blocks)
    work.scratch.row_outputs.fill_(float("nan"))
    work.launch(0)
    return work, stages(buffers, work.scratch.row_outputs)


@pytest.mark.parametrize("dtype", ["bf16", "fp8_block"])
@pytest.mark.parametrize("rows_at_a_time", [8, 16, 32, 64])
def test_random_routings_agree_with_float64(dtype: str, rows_at_a_time: int) -> None:
    drawn = random.Random(f"{dtype} {rows_at_a_time}")  # noqa: S311 - routings, not secrets
    step = 128 if dtype == "fp8_block" else 8
    every = []
    for seed in range(ROUTINGS_OF_A_CASE):
        most = drawn.choice((1, 3, 9, rows_at_a_time + 5))
        rows = tuple(max(0, drawn.randint(-most, most)) for _ in range(drawn.randint(1, 9)))
        given = workload(
            rows if any(rows) else (1, *rows[1:]),
            dtype,
            hidden_size=step * drawn.randint(1, max(1, 200 // step)),
            expert_size=step * drawn.randint(1, max(1, 160 // step)),
            batch_size=drawn.choice((1, 4, 40)),
            top_k=drawn.randint(1, 4),
        )
        _, found = launched(given, rows_at_a_time, num_blocks=drawn.randint(1, 7), seed=seed)
        every.append(found)

    # One by one: a NaN is not below anything.
    assert all(each.hidden < MAX_ERROR for each in every)
    assert all(each.row_outputs < MAX_ERROR for each in every)
    assert all(each.outputs < MAX_ERROR for each in every)


@pytest.mark.parametrize("dtype", ["bf16", "fp8_block"])
@pytest.mark.parametrize("rows", ROUTINGS.values(), ids=ROUTINGS)
def test_tricky_routings_agree_with_float64(dtype: str, rows: tuple[int, ...]) -> None:
    given = workload(rows, dtype, hidden_size=384, expert_size=256)
    work = HostExperts().bind(given, CPU, l2_state="cold", seed=3)

    assert work.output(0).isnan().all()
    assert relative_error(work, 0) < MAX_RELATIVE_ERROR[dtype] / 3
    assert work.output(0).isfinite().all()


@pytest.mark.parametrize("seed", range(6))
def test_neither_the_schedule_nor_the_number_of_blocks_changes_a_bit(seed: int) -> None:
    given = workload((3, 0, 11, 1), "bf16", hidden_size=320, expert_size=200)
    work, _ = launched(given, 8, num_blocks=5, seed=0)
    again = HostWork(work.buffers, stream.StreamSettings("bf16", 8, 1), seed=seed, num_blocks=5)
    first = work.output(0).clone()
    again.launch(0)

    assert torch.equal(work.output(0), first)


def test_a_second_launch_is_the_same_because_the_counters_are_zero_again() -> None:
    given = workload((9, 0, 4, 1, 30), "fp8_block", hidden_size=384, expert_size=256)
    work, _ = launched(given, 16, num_blocks=7, seed=1)
    first = work.output(0).clone()

    assert not work.scratch.counters.any()
    work.buffers.outputs.fill_(float("nan"))
    work.launch(0)
    assert torch.equal(work.output(0), first)


def test_tokens_without_a_row_on_this_rank_are_zeros() -> None:
    given = workload((1, 0, 1), "bf16", hidden_size=64, expert_size=64, batch_size=9)
    work, _ = launched(given, 8, num_blocks=2, seed=1)

    assert not work.output(0)[2:].any()
    assert work.output(0)[:2].any(dim=1).all()


def test_row_counts_are_read_on_the_device() -> None:
    given = workload((4, 4, 0), "bf16", hidden_size=128, expert_size=128, batch_size=8)
    work, _ = launched(given, 8, num_blocks=3, seed=1)
    moved = workload((1, 5, 2), "bf16", hidden_size=128, expert_size=128, batch_size=8)
    other = allocate(moved, CPU, l2_state="cold", seed=1, combined=True)
    # The same launch, with other counts in the same memory.
    work.buffers.row_ends.copy_(other.row_ends)
    work.launch(0)
    expected = HostExperts().bind(moved, CPU, l2_state="cold", seed=1)
    expected.launch(0)

    assert torch.equal(work.output(0), expected.output(0))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (workload((1,), "fp32", hidden_size=64, expert_size=64), "bf16 and fp8_block weights"),
        (workload((1,), "bf16", hidden_size=60, expert_size=64), "multiples of 8 in bf16"),
        (workload((1,), "fp8_block", hidden_size=128, expert_size=64), "multiples of 128"),
        (workload((0,), "bf16", hidden_size=64, expert_size=64), "no rows"),
        (workload((1,) * 513, "bf16", hidden_size=8, expert_size=8), "512 local experts"),
        (workload((9,), "bf16", hidden_size=8192, expert_size=8192), "takes too long"),
    ],
)
def test_what_it_cannot_run_is_refused_with_the_reason(given: Any, words: str) -> None:
    assert words in str(HostExperts().refusal(given, CPU.identity))
