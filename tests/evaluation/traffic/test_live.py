"""Claims about traffic of a model that runs."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional

from moeprof.errors import RecipeError, TextError
from moeprof.evaluation.traffic.live_model import live_traffic
from moeprof.evaluation.traffic.slots import split
from moeprof.gate.rule import Routing
from moeprof.gate.site import find_gates
from moeprof.resources import data_folder
from moeprof.trace.reader import open_trace
from moeprof.workload.layer import MoELayer

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import MakeScene, Plain
    from torch import Tensor

    from moeprof.evaluation.traffic.live import LiveTraffic

MINI = data_folder() / "mini-moe"
LAYER = MoELayer("any", 8, 8, num_experts=32, top_k=4)
SETTINGS = {"kind": "live", "batch_size": 6, "context_tokens": 40}


@pytest.fixture(scope="module")
def traffic(make_scene: MakeScene) -> LiveTraffic:
    return live_traffic(make_scene(num_steps=9, num_settling_steps=3, **SETTINGS), LAYER, MINI)


@pytest.fixture(scope="module")
def windows() -> Tensor:
    return torch.tensor(list((MINI / "held-out.txt").read_bytes())).view(224, 256)


@pytest.fixture(scope="module")
def seen(traffic: LiveTraffic, plain: type[Plain]) -> Plain:
    return plain(traffic)


@pytest.fixture(scope="module")
def losses(traffic: LiveTraffic, seen: Plain) -> np.ndarray:
    return traffic.run(seen)


def test_with_plain_top_k_losses_are_those_of_one_forward_pass(
    traffic: LiveTraffic, losses: np.ndarray, windows: Tensor
) -> None:
    requests = torch.from_numpy(traffic.requests()[:, 0] % 2**32)
    text = windows[requests.flatten()]
    with torch.inference_mode():
        logits = traffic.model(input_ids=text[:, :52], use_cache=False).logits
    expected = functional.cross_entropy(
        logits[:, 40:52].double().flatten(0, 1), text[:, 41:53].flatten(), reduction="none"
    )

    assert losses.shape == (3, 12, 6)
    assert losses.dtype == np.float64
    by_request = losses.transpose(0, 2, 1).reshape(18, 12)
    assert np.abs(by_request - expected.view(18, 12).numpy()).max() < 1e-4


def test_with_plain_top_k_the_routing_is_what_the_trace_recorded(
    traffic: LiveTraffic, seen: Plain, losses: np.ndarray
) -> None:
    trace = open_trace(MINI / "trace.parquet")
    requests = traffic.requests()[:, 0] % 2**32
    seeds, slots = (requests < 56).nonzero()  # of the 224 windows, as many are in the trace
    assert losses is not None
    assert len(seeds)
    for place, layer in enumerate(trace.metadata.layers):
        rows = trace.read_layer(layer, ("experts", "logits"))
        for step in range(12):
            at = requests[seeds, slots] * 256 + 40 + step
            ranked = -np.sort(-rows.logits[at].astype(np.float32), axis=1)
            clear = ranked[:, 3] - ranked[:, 4] > 1e-3
            chosen = seen.experts[4 * step + place][seeds, slots].numpy()
            alike = np.sort(chosen, axis=1) == np.sort(rows.experts[at], axis=1)
            assert alike[clear].all()
            assert clear.mean() > 0.5


def test_steps_and_layers_come_in_order_and_every_run_is_the_same(
    traffic: LiveTraffic, seen: Plain, losses: np.ndarray, plain: type[Plain]
) -> None:
    again = plain(traffic)

    assert (traffic.run(again) == losses).all()
    assert seen.order == [(step, place) for step in range(12) for place in range(4)]
    assert all(map(torch.equal, seen.logits, again.logits))


def test_what_is_decided_reaches_later_layers_and_losses_and_no_later_run(
    traffic: LiveTraffic, losses: np.ndarray, plain: type[Plain], seen: Plain
) -> None:
    def worst(step: int, place: int, logits: Tensor) -> Routing:
        if step == 5 and place == 1:
            experts = logits[:1].topk(4, dim=-1, largest=False).indices
            experts = torch.cat([experts, logits[1:].topk(4, dim=-1).indices])
            return Routing(experts, torch.full(experts.shape, 0.25))
        return seen_again(step, place, logits)

    seen_again = plain(traffic)
    changed = traffic.run(worst)

    assert (changed[:, :5] == losses[:, :5]).all()
    assert (np.abs(changed[0, 5:] - losses[0, 5:]) > 1e-3).mean() > 0.5
    assert (traffic.run(plain(traffic)) == losses).all()
    assert torch.equal(seen_again.logits[20], seen.logits[20])
    assert not torch.equal(seen_again.logits[21], seen.logits[22])


def test_one_seeds_sequences_know_nothing_of_another_seeds(
    traffic: LiveTraffic, losses: np.ndarray, make_scene: MakeScene, plain: type[Plain]
) -> None:
    alone = live_traffic(
        make_scene(num_seeds=1, num_steps=9, num_settling_steps=3, **SETTINGS), LAYER, MINI
    )

    found = alone.run(plain(alone))

    assert (alone.requests() == traffic.requests()[:1]).all()
    assert np.abs(found - losses[:1]).max() < 1e-4


def test_requests_are_distinct_within_a_seed_and_none_is_shown_to_balancers(
    traffic: LiveTraffic,
) -> None:
    requests = traffic.requests()

    assert requests.shape == (3, 12, 6)
    assert len(np.unique(requests)) == 18
    assert (requests == requests[:, :1]).all()
    assert traffic.profile().shape == (682, 4, 32)
    assert (traffic.profile().sum(axis=2) == 6 * 4).all()


def test_balancers_are_shown_other_windows_than_those_decoded(
    tmp_path: Path, traffic: LiveTraffic, make_scene: MakeScene
) -> None:
    for name in ("config.json", "model.safetensors", "moeprof.json"):
        shutil.copyfile(MINI / name, tmp_path / name)
    _, reserved = split(8, 0)
    text = b"".join((b"b" if window in reserved else b"a") * 256 for window in range(8))
    (tmp_path / "held-out.txt").write_bytes(text)
    scene = make_scene(kind="live", batch_size=2, context_tokens=9, num_steps=2)
    kept: list[Tensor] = []
    gate = find_gates(traffic.model)[3].gate
    hook = gate.register_forward_hook(lambda _, __, output: kept.append(output[2]))
    with torch.inference_mode():
        for letter in (b"a", b"b"):
            traffic.model(torch.tensor([list(letter * 256)]))
    hook.remove()
    of_a, of_b = (set(experts[9:].flatten().tolist()) for experts in kept)

    shown = set(live_traffic(scene, LAYER, tmp_path).profile()[:, 3].sum(axis=0).nonzero()[0])

    assert of_a - of_b
    assert shown <= of_b


def test_layers_beyond_those_simulated_route_as_the_model_does(
    traffic: LiveTraffic, losses: np.ndarray, make_scene: MakeScene, plain: type[Plain]
) -> None:
    scene = make_scene(num_steps=9, num_settling_steps=3, num_layers=2, **SETTINGS)
    two = live_traffic(scene, LAYER, MINI)
    seen = plain(two)

    found = two.run(seen)

    assert (two.num_layers, traffic.num_layers) == (2, 4)
    assert {place for _, place in seen.order} == {0, 1}
    assert (found == losses).all()


def test_without_context_one_token_is_the_context(
    make_scene: MakeScene, plain: type[Plain]
) -> None:
    scene = make_scene(kind="live", batch_size=2, context_tokens=0, num_steps=3)
    traffic = live_traffic(scene, LAYER, MINI)

    assert traffic.run(plain(traffic)).shape == (3, 19, 2)


def test_what_cannot_run_is_refused_by_name(tmp_path: Path, make_scene: MakeScene) -> None:
    for name in ("config.json", "model.safetensors", "moeprof.json"):
        shutil.copyfile(MINI / name, tmp_path / name)

    with pytest.raises(TextError, match=r"must have held-out\.txt"):
        live_traffic(make_scene(kind="live"), LAYER, tmp_path)
    (tmp_path / "held-out.txt").write_bytes(b"a" * 511)
    with pytest.raises(TextError, match=r"two windows of 256 tokens, has 511 tokens"):
        live_traffic(make_scene(kind="live"), LAYER, tmp_path)
    with pytest.raises(RecipeError, match=r"batch_size: must be at most 168, .*got 169"):
        live_traffic(make_scene(kind="live", batch_size=169), LAYER, MINI)
    with pytest.raises(RecipeError, match=r"at most 1023, .*1024 positions, got 1024"):
        live_traffic(make_scene(kind="live", num_steps=944), LAYER, MINI)
    with pytest.raises(RecipeError, match="num_layers: must be at most 4"):
        live_traffic(make_scene(kind="live", num_layers=5), LAYER, MINI)
