"""Every window once in an epoch, in an order that the seed decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moeprof.training.windows import TokenText, judged_batches, training_batch

TEXT = TokenText(np.arange(203, dtype=np.int32), 203)


def epoch(seed: int) -> torch.Tensor:
    # 203 tokens are 202 targets, of which an epoch takes 19 windows of 10, one per step here.
    batches = [training_batch(TEXT, step=i, num_windows=1, length=10, seed=seed) for i in range(19)]
    return torch.cat(batches)


def test_an_epoch_takes_every_window_once_side_by_side() -> None:
    starts = epoch(seed=1)[:, 0].sort().values

    assert (starts.diff() == 10).all()
    assert epoch(seed=1).shape == (19, 11)


def test_the_seed_decides_the_order() -> None:
    assert torch.equal(epoch(seed=1), epoch(seed=1))
    assert not torch.equal(epoch(seed=1), epoch(seed=2))


def test_a_step_is_the_same_whatever_was_drawn_before() -> None:
    alone = training_batch(TEXT, step=9, num_windows=4, length=10, seed=1)
    epoch(seed=5)

    assert torch.equal(training_batch(TEXT, step=9, num_windows=4, length=10, seed=1), alone)


def test_the_next_epoch_is_cut_elsewhere() -> None:
    offsets = {
        int(training_batch(TEXT, step=step, num_windows=19, length=10, seed=1)[:, 0].min())
        for step in range(6)
    }

    assert len(offsets) > 1


@pytest.mark.parametrize("num_tokens", [11, 12, 20, 21, 22])
def test_a_text_of_hardly_a_window_is_still_cut_inside_it(num_tokens: int) -> None:
    text = TokenText(np.arange(num_tokens, dtype=np.int32), num_tokens)
    for step in range(30):
        batch = training_batch(text, step=step, num_windows=2, length=10, seed=0)

        assert batch.shape == (2, 11)


def test_judged_windows_predict_each_token_once() -> None:
    batches = list(judged_batches(TEXT, length=10, num_per_batch=8))

    targets = torch.cat([batch[:, 1:].flatten() for batch in batches])
    assert [len(batch) for batch in batches] == [8, 8, 4]
    assert targets.tolist() == list(range(1, 201))


def test_of_too_many_windows_evenly_spaced_ones_are_judged() -> None:
    (batch,) = judged_batches(TEXT, length=10, num_per_batch=8, num_windows_max=3)

    assert batch[:, 0].tolist() == [0, 100, 190]
