"""Claims about the law fitted to recorded logits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moeprof.errors import TraceError
from moeprof.evaluation.traffic.generated import generated_traffic
from moeprof.evaluation.traffic.law import LogitLaw, cut_gap_and_top_share, fit_law, rescaled
from moeprof.evaluation.traffic.overlap import mean_overlaps
from moeprof.evaluation.traffic.traced import TracedTokens, read_traced
from moeprof.gate.softmax import SoftmaxRule
from moeprof.resources import data_folder
from moeprof.workload.layer import MoELayer

if TYPE_CHECKING:
    from conftest import MakeScene, Plain

LAYER = MoELayer("any", 8, 8, num_experts=32, top_k=4)


@pytest.fixture(scope="module")
def mini() -> TracedTokens:
    return read_traced(data_folder() / "mini-moe" / "trace.parquet")


@pytest.fixture(scope="module")
def law(mini: TracedTokens) -> LogitLaw:
    return fit_law(mini)


@pytest.fixture(scope="module")
def again(
    law: LogitLaw, mini: TracedTokens, make_scene: MakeScene, plain: type[Plain]
) -> TracedTokens:
    """Generated logits of 60 requests of 100 tokens at 16 layers, as a trace holds them."""
    scene = make_scene(num_seeds=4, kind="generated", batch_size=15, num_steps=84)
    traffic = generated_traffic(scene, LAYER, law, num_moe_layers=16)
    seen = plain(traffic)
    traffic.run(seen)
    by_step = torch.stack(seen.logits).view(100, 16, 60, 32)
    return replace(
        mini,
        rules=traffic.rules,
        logits=tuple(by_step[:, place].transpose(0, 1).reshape(-1, 32) for place in range(16)),
        requests=np.arange(60),
        starts=np.arange(60) * 100,
        lengths=np.full(60, 100),
    )


def test_generated_logits_give_the_law_back(law: LogitLaw, again: TracedTokens) -> None:
    found = fit_law(again)

    assert found.popularity_fraction == pytest.approx(law.popularity_fraction, rel=0.25)
    # A token has exactly k experts, where scores above a bar are sometimes more and sometimes less.
    assert found.request_fraction == pytest.approx(law.request_fraction, rel=0.1)
    assert found.memory_fraction == pytest.approx(law.memory_fraction, rel=0.1)
    assert found.top_share_fraction == pytest.approx(law.top_share_fraction, rel=0.02)
    assert found.scale_nats == pytest.approx(law.scale_nats, rel=0.04)
    assert found.skewness == pytest.approx(law.skewness, rel=0.04)


def test_generated_choices_overlap_and_are_paid_for_as_the_recorded_ones(
    mini: TracedTokens, again: TracedTokens
) -> None:
    recorded, generated = (
        np.mean(
            [
                [
                    *mean_overlaps(x.numpy(), 4, each.starts, each.lengths, far_tokens=8),
                    *cut_gap_and_top_share(x.numpy(), 4),
                    *(x.softmax(dim=1).sort(descending=True).values[:, :4].mean(dim=0).tolist()),
                ]
                for x in each.logits
            ],
            axis=0,
        )
        for each in (mini, again)
    )

    assert generated[0] == pytest.approx(recorded[0], rel=0.01)
    assert generated[1:3] == pytest.approx(recorded[1:3], rel=0.06)
    assert generated[3:5] == pytest.approx(recorded[3:5], rel=0.03)
    # Not fitted: how the share goes on behind the first expert.
    assert generated[6:] == pytest.approx(recorded[6:], abs=0.035)


def test_the_gap_is_at_the_cut_and_the_share_is_the_softmax_s() -> None:
    logits = np.log([[1.0, 5.0, 2.0, 2.0], [4.0, 1.0, 1.0, 4.0]])

    gap, top = cut_gap_and_top_share(logits, 1)

    assert gap == pytest.approx((np.log(5 / 2) + 0) / 2)
    assert top == pytest.approx((0.5 + 0.4) / 2)
    assert cut_gap_and_top_share(logits, 2)[0] == pytest.approx(np.log(4) / 2)


def test_logits_are_tukeys_g_distribution_which_without_skewness_is_normal() -> None:
    scores = torch.tensor([-2.0, 0.0, 1.0])
    skewed = LogitLaw(0, 0, 0, 0.5, 2.0, 0.5)

    assert skewed.logits(scores).tolist() == pytest.approx(
        [4 * (np.exp(-1) - 1), 0, 4 * (np.exp(0.5) - 1)]
    )
    assert replace(skewed, skewness=0.0).logits(scores).tolist() == [-4.0, 0.0, 2.0]


@pytest.mark.parametrize("num_experts", [8, 64, 256])
def test_the_first_experts_share_is_kept_for_other_numbers_of_experts(
    law: LogitLaw, num_experts: int
) -> None:
    scores = torch.randn(20_000, num_experts, generator=torch.Generator().manual_seed(1))

    logits = rescaled(law, num_experts).logits(scores)

    top = logits.softmax(dim=1).max(dim=1).values.mean()
    assert float(top) == pytest.approx(law.top_share_fraction, rel=0.02)


def test_for_the_number_it_was_fitted_to_the_law_stays(law: LogitLaw) -> None:
    assert rescaled(law, 32).scale_nats == pytest.approx(law.scale_nats, rel=1e-3)


def test_what_cannot_be_followed_is_refused(mini: TracedTokens) -> None:
    one = replace(mini, requests=np.arange(1), starts=np.arange(1), lengths=np.array([14336]))
    short = replace(mini, starts=np.arange(14336), lengths=np.ones(14336, dtype=np.int64))
    flat = replace(
        mini, logits=(torch.cat([torch.full((14336, 4), 9.0), torch.zeros(14336, 28)], dim=1),)
    )

    with pytest.raises(TraceError, match="fewer than its 32 experts"):
        fit_law(replace(mini, top_k=32))
    with pytest.raises(TraceError, match="has 1, the longest of 14336"):
        fit_law(one)
    with pytest.raises(TraceError, match="has 14336, the longest of 1"):
        fit_law(short)
    with pytest.raises(TraceError, match="gap of 9 at the cut"):
        fit_law(flat)
    assert isinstance(mini.rules[0], SoftmaxRule)
