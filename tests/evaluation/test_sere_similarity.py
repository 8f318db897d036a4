"""Claims about how similar experts are, and about scenes whose traffic has none to compare."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evaluation.scenes import run, shipped, stage_of
from tiny_models import FAMILIES, tiny_model
from torch.nn import functional

from moeprof.errors import CheckpointError, RecipeError
from moeprof.evaluation import sere_similarity
from moeprof.evaluation.seated import seat
from moeprof.evaluation.sere_similarity import NUM_STATES, similarities_of, without_outputs
from moeprof.recipe.scene import PolicySection

SERE = PolicySection(name="sere", router="sere", settings=({"num_primary": 1},))
FEW = {"kind": "recorded", "num_settling_steps": 0, "num_steps": 2, "num_layers": 2}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_experts_of_every_family_are_compared(family: str) -> None:
    found = similarities_of(tiny_model(family))

    assert sorted(found) == list(range(len(found)))  # places, whatever the decoder layers are
    for similarity in found.values():
        assert similarity.shape == (8, 8)
        assert similarity.dtype == torch.float32
        torch.testing.assert_close(similarity.diagonal(), torch.ones(8))
        assert similarity.min() == 0.0  # the farthest pair's


def test_outputs_are_the_experts_own_on_the_same_states() -> None:
    model = tiny_model("qwen3-moe")
    experts = model.model.layers[1].mlp.experts
    states = torch.randn(NUM_STATES, 32, generator=torch.Generator().manual_seed(0))
    outputs = []
    with torch.no_grad():
        for gate_up, down in zip(experts.gate_up_proj, experts.down_proj, strict=True):
            gate, up = (states @ gate_up.T).chunk(2, dim=-1)
            outputs.append(functional.silu(gate) * up @ down.T)
    distances = torch.tensor([[float((a - b).norm()) for b in outputs] for a in outputs])

    found = similarities_of(model)[1]

    torch.testing.assert_close(found, 1 - distances / distances.max(), atol=1e-5, rtol=1e-4)


def test_equal_experts_are_quite_similar_and_nothing_else_decides() -> None:
    model = tiny_model("qwen3-moe")
    experts = model.model.layers[0].mlp.experts
    with torch.no_grad():
        experts.gate_up_proj[5] = experts.gate_up_proj[2]
        experts.down_proj[5] = experts.down_proj[2]
    state = torch.random.get_rng_state()

    found, again = similarities_of(model, 1), similarities_of(model, 1)

    assert list(found) == [0]
    assert found[0][2, 5] == pytest.approx(1.0)
    assert torch.equal(found[0], again[0])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_experts_that_are_no_single_module_are_refused() -> None:
    model = tiny_model("mixtral")
    model.model.layers[1].mlp.experts = torch.nn.ModuleList([torch.nn.Identity()] * 8)

    with pytest.raises(CheckpointError, match=r"layer 1 \(mixtral\): must have its experts in one"):
        similarities_of(model)


def test_sere_re_routes_recorded_traffic_of_the_model_that_ships() -> None:
    stage = stage_of(shipped("one-slow-gpu", num_seeds=2, traffic=FEW))
    plain, found = run(stage), run(stage, SERE, {"num_primary": 1})
    kept = run(stage, SERE, {"num_primary": 4})

    assert (found.active_experts < plain.active_experts).all()
    assert found.changed_fraction.min() > 0
    np.testing.assert_array_equal(kept.changed_fraction, 0.0)


def test_live_traffic_is_compared_by_the_model_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    traffic = {"num_settling_steps": 0, "num_steps": 2, "num_layers": 2, "batch_size": 2}
    stage = stage_of(shipped("one-slow-gpu", num_seeds=1, traffic=traffic))
    monkeypatch.setattr(sere_similarity, "load_model", None)

    assert sorted(stage.similarities()) == [0, 1]
    assert stage.similarities()[0] is stage.similarities()[0]


def test_traffic_without_experts_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stage_of(shipped("one-slow-gpu", num_seeds=1, traffic={**FEW, "kind": "generated"}))

    with pytest.raises(RecipeError, match="policy 'sere': it needs experts' outputs, and generat"):
        seat(stage, SERE, {"num_primary": 1})

    recorded = stage.scene.model_copy(
        update={"traffic": stage.scene.traffic.model_copy(update={"kind": "recorded"})}
    )
    assert without_outputs(recorded) is None
    monkeypatch.setattr(sere_similarity, "find_spec", lambda name: None)
    assert "Transformers" in str(without_outputs(recorded))
    elsewhere = recorded.traffic.model_copy(update={"source": "a/trace.parquet"})
    found = without_outputs(recorded.model_copy(update={"traffic": elsewhere}))
    assert "without its model" in str(found)
