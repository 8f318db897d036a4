"""Claims about traffic drawn by a law."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moeprof.evaluation.traffic.generated import GeneratedTraffic, generated_traffic
from moeprof.evaluation.traffic.law import LogitLaw, fit_law
from moeprof.evaluation.traffic.recorded import recorded_traffic
from moeprof.evaluation.traffic.traced import TracedTokens, read_traced
from moeprof.gate.softmax import SoftmaxRule
from moeprof.resources import data_folder
from moeprof.workload.layer import MoELayer

if TYPE_CHECKING:
    from conftest import MakeScene, Plain

    from moeprof.evaluation.traffic.protocol import Traffic


@pytest.fixture(scope="module")
def mini() -> TracedTokens:
    return read_traced(data_folder() / "mini-moe" / "trace.parquet")


@pytest.fixture(scope="module")
def law(mini: TracedTokens) -> LogitLaw:
    return fit_law(mini)


def layer(num_experts: int, top_k: int) -> MoELayer:
    return MoELayer("any", 8, 8, num_experts=num_experts, top_k=top_k)


def active(traffic: Traffic, plain: type[Plain], top_k: int | None = None) -> float:
    seen = plain(traffic)
    traffic.run(seen)
    return float(
        np.mean(
            [len(np.unique(each[..., :top_k])) for call in seen.experts for each in call.numpy()]
        )
    )


def test_as_many_experts_are_active_as_in_the_recorded_traffic(
    mini: TracedTokens, law: LogitLaw, make_scene: MakeScene, plain: type[Plain]
) -> None:
    scene = make_scene(num_seeds=8, num_steps=16)

    recorded = active(recorded_traffic(scene, mini), plain)
    generated = active(generated_traffic(scene, layer(32, 4), law, num_moe_layers=4), plain)

    assert generated == pytest.approx(recorded, rel=0.02)
    assert recorded < 32 * (1 - (1 - 4 / 32) ** 16)  # what uniform choices would be


def test_a_real_model_of_60_experts_has_nearly_as_many_active(
    law: LogitLaw, make_scene: MakeScene, plain: type[Plain]
) -> None:
    """Qwen1.5-MoE at batch 16, on recorded traces: 38 to 39.5, and 23.6 to 24.7 of the top 2."""
    traffic = generated_traffic(make_scene(num_steps=16), layer(60, 4), law, num_moe_layers=8)

    assert 37.5 < active(traffic, plain) < 40
    assert 23.3 < active(traffic, plain, top_k=2) < 25


def test_every_run_is_the_same_and_a_seed_does_not_depend_on_how_many_there_are(
    law: LogitLaw, make_scene: MakeScene, plain: type[Plain]
) -> None:
    few, many = (
        generated_traffic(
            make_scene(num_seeds=number, num_steps=4), layer(64, 8), law, num_moe_layers=3
        )
        for number in (2, 5)
    )
    runs = [plain(few), plain(few), plain(many)]

    for run in runs:
        assert run.traffic.run(run) is None

    assert runs[0].order == [(step, place) for step in range(few.num_steps) for place in range(3)]
    for first, again, more in zip(*(run.logits for run in runs), strict=True):
        assert first.dtype == torch.float32
        assert torch.equal(first, again)
        assert torch.equal(first, more[:2])
    assert not torch.equal(runs[0].logits[0][0], runs[0].logits[0][1])
    assert not torch.equal(runs[0].logits[0], runs[0].logits[1])


def test_another_seed_of_the_scene_is_another_model_and_other_requests(
    law: LogitLaw, make_scene: MakeScene
) -> None:
    one, other = (
        generated_traffic(make_scene(seed=seed), layer(8, 2), law, num_moe_layers=1)
        for seed in (0, 1)
    )

    assert (one.profile() != other.profile()).any()


def test_scores_have_the_variances_and_the_memory_of_the_law(
    make_scene: MakeScene, plain: type[Plain]
) -> None:
    law = LogitLaw(0.2, 0.3, 0.6, 0.5, scale_nats=2.0, skewness=0.0)
    rule = SoftmaxRule(64, 4, renormalised=True, float32_weights=True)
    traffic = GeneratedTraffic(law, 0, 8, 100, 16, (rule,) * 4)
    seen = plain(traffic)

    traffic.run(seen)

    scores = (torch.stack(seen.logits).view(100, 4, 8 * 16, 64) / 2).double()
    expert = scores.mean(dim=(0, 2))
    request = scores.mean(dim=0) - expert[:, None]
    token = scores - scores.mean(dim=0)
    assert float(expert.var()) == pytest.approx(0.2, rel=0.2)
    assert float(token.var()) == pytest.approx(0.8 * 0.7, rel=0.05)
    # Of a mean over 100 tokens with a memory of 0.6, about 1.6 / 0.4 / 100 is the tokens' own.
    assert float(request.var()) == pytest.approx(0.8 * (0.3 + 0.7 * 0.04), rel=0.05)
    followed = (token[1:] * token[:-1]).mean() / token.var()
    assert float(followed) == pytest.approx(0.6, abs=0.03)


def test_a_balancer_sees_the_popularity_that_the_steps_have(
    law: LogitLaw, make_scene: MakeScene, plain: type[Plain]
) -> None:
    scene = make_scene(num_seeds=20, num_steps=16)
    traffic = generated_traffic(scene, layer(32, 4), law, num_moe_layers=2)
    seen = plain(traffic)

    traffic.run(seen)

    assert traffic.profile().shape == (256, 2, 32)
    assert (traffic.profile().sum(axis=2) == 16 * 4).all()
    for place in range(2):
        chosen = torch.stack(seen.experts[place::2]).flatten().numpy()
        load = np.bincount(chosen, minlength=32)
        assert np.corrcoef(load, traffic.profile()[:, place].sum(axis=0))[0, 1] > 0.85


def test_the_model_s_layers_are_simulated_unless_the_scene_says_how_many(
    law: LogitLaw, make_scene: MakeScene
) -> None:
    every = generated_traffic(make_scene(), layer(8, 2), law, num_moe_layers=58)
    some = generated_traffic(make_scene(num_layers=3), layer(8, 2), law, num_moe_layers=58)

    assert (every.num_layers, some.num_layers) == (58, 3)
    assert every.rules[0].weights(torch.zeros(1, 8), torch.tensor([[0, 1]])).sum() == 1


@pytest.mark.parametrize(("num_experts", "top_k"), [(1, 1), (2, 2), (8, 2), (256, 8), (512, 10)])
def test_any_number_of_experts_can_be_drawn(
    law: LogitLaw, make_scene: MakeScene, plain: type[Plain], num_experts: int, top_k: int
) -> None:
    scene = make_scene(num_steps=2, num_settling_steps=0, batch_size=4)
    traffic = generated_traffic(scene, layer(num_experts, top_k), law, num_moe_layers=2)
    seen = plain(traffic)

    traffic.run(seen)

    assert seen.logits[0].shape == (3, 4, num_experts)
    assert all(logits.isfinite().all() for logits in seen.logits)
    assert traffic.requests().shape == (3, 2, 4)
    assert len(np.unique(traffic.requests())) == 12
