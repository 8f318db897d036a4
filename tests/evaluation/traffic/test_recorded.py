"""Claims about traffic of a trace."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from trace_examples import metadata, routed, write_example

from moeprof.errors import TraceError
from moeprof.evaluation.traffic.recorded import recorded_traffic
from moeprof.evaluation.traffic.traced import read_traced
from moeprof.gate.description import describe
from moeprof.gate.softmax import SoftmaxRule
from moeprof.resources import data_folder
from moeprof.trace.writer import writing_trace

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import MakeScene, Plain

    from moeprof.evaluation.traffic.traced import TracedTokens

MINI_TRACE = data_folder() / "mini-moe" / "trace.parquet"
RULES = (describe(SoftmaxRule(8, 2, renormalised=True, float32_weights=True)),) * 2


@pytest.fixture(scope="module")
def mini() -> TracedTokens:
    return read_traced(MINI_TRACE)


def test_a_run_shows_the_recorded_logits_of_consecutive_tokens(
    mini: TracedTokens, make_scene: MakeScene, plain: type[Plain]
) -> None:
    scene = make_scene(batch_size=5, context_tokens=30, num_steps=6, num_settling_steps=2)
    traffic = recorded_traffic(scene, mini)
    seen = plain(traffic)

    assert traffic.run(seen) is None

    assert seen.order == [(step, place) for step in range(8) for place in range(4)]
    found = {row.numpy().tobytes(): at for at, row in enumerate(mini.logits[2])}
    requests = traffic.requests()
    for seed in range(3):
        for slot in range(5):
            rows = [
                found[seen.logits[4 * step + 2][seed, slot].numpy().tobytes()] for step in range(8)
            ]
            of_request = np.searchsorted(mini.starts, rows, side="right") - 1
            assert (requests[seed, :, slot] % 2**32 == mini.requests[of_request]).all()
            goes_on = np.diff(rows) == 1
            assert (goes_on | (np.diff(of_request) != 0)).all()
            assert (rows - mini.starts[of_request] >= 30).all()


def test_every_run_is_the_same_and_a_seed_does_not_depend_on_how_many_there_are(
    mini: TracedTokens, make_scene: MakeScene, plain: type[Plain]
) -> None:
    few = recorded_traffic(make_scene(num_seeds=2, num_steps=4), mini)
    many = recorded_traffic(make_scene(num_seeds=5, num_steps=4), mini)
    runs = [plain(few), plain(few), plain(many)]

    for run in runs:
        run.traffic.run(run)

    for first, again, more in zip(*(run.logits for run in runs), strict=True):
        assert torch.equal(first, again)
        assert torch.equal(first, more[:2])
    assert not torch.equal(runs[2].logits[0][0], runs[2].logits[0][1])
    assert not np.intersect1d(many.requests()[0], many.requests()[1:]).size


def test_balancers_are_shown_tokens_that_are_not_simulated(
    mini: TracedTokens, make_scene: MakeScene
) -> None:
    scene = make_scene(num_seeds=60, batch_size=8)
    traffic = recorded_traffic(scene, mini)
    simulated = np.unique(traffic.requests() % 2**32)
    # Experts 0..3 are made the choice of every token that no seed decodes, and of no other.
    is_simulated = torch.from_numpy(np.repeat(np.isin(mini.requests, simulated), mini.lengths))
    marked = mini.logits[1].clone()
    marked[:, :4] += torch.where(is_simulated, -1000.0, 1000.0)[:, None]

    shown = recorded_traffic(scene, replace(mini, logits=(marked,), rules=mini.rules[:1])).profile()

    assert len(simulated) == 42
    assert traffic.profile().shape == (512, 4, 32)
    assert (traffic.profile().sum(axis=2) == 8 * 4).all()
    assert (shown[..., :4] == 8).all()


def test_memory_does_not_grow_with_steps(mini: TracedTokens, make_scene: MakeScene) -> None:
    traffic = recorded_traffic(make_scene(num_steps=2000), mini)

    assert traffic.logits[0] is mini.logits[0]
    assert traffic.tokens.numel() == 3 * 2016 * 16


def test_dummy_tokens_are_left_out_and_tokens_stand_in_the_order_of_their_requests(
    tmp_path: Path,
) -> None:
    tokens = routed(40)
    is_dummy = np.zeros(40, dtype=bool)
    is_dummy[10:20] = True
    shuffled = np.random.default_rng(0).permutation(40)
    mixed = replace(
        tokens,
        experts=tokens.experts[:, shuffled],
        weights=tokens.weights[:, shuffled],
        logits=tokens.logits[:, shuffled],
        request=tokens.request[shuffled],
        position=tokens.position[shuffled],
        token_id=tokens.token_id[shuffled],
        is_dummy=is_dummy[shuffled],
    )
    path = tmp_path / "trace.parquet"
    with writing_trace(path, metadata(gate_rules=RULES), weights=True, logits=True) as writer:
        writer.write(mixed)

    traced = read_traced(path)

    assert traced.requests.tolist() == [0, 2, 3]
    assert traced.lengths.tolist() == [10, 10, 10]
    for layer in range(2):
        kept = tokens.logits[layer][~is_dummy].astype(np.float32)
        assert (traced.logits[layer].numpy() == kept).all()


def test_a_trace_is_cut_to_the_layers_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    write_example(path, gate_rules=RULES)

    assert len(read_traced(path, 1).logits) == len(read_traced(path, 1).rules) == 1
    with pytest.raises(TraceError, match=r"must have 3 MoE layers .*has 2"):
        read_traced(path, 3)


def test_a_trace_that_cannot_be_decoded_again_is_refused_by_name(
    tmp_path: Path, make_scene: MakeScene
) -> None:
    def written(name: str, **changes: object) -> Path:
        path = tmp_path / name
        with writing_trace(
            path, metadata(gate_rules=RULES), weights=False, logits=name != "top.parquet"
        ) as writer:
            writer.write(replace(routed(30), weights=None, **changes))
        return path

    write_example(tmp_path / "imported.parquet")

    with pytest.raises(TraceError, match="no column logits"):
        read_traced(written("top.parquet", logits=None))
    with pytest.raises(TraceError, match="must tell requests"):
        read_traced(written("mixed.parquet", request=None))
    with pytest.raises(TraceError, match="must tell gate rules"):
        read_traced(tmp_path / "imported.parquet")
    with pytest.raises(TraceError, match="no dummy, has none"):
        read_traced(written("dummies.parquet", is_dummy=np.ones(30, dtype=bool)))
    with pytest.raises(TraceError, match=r"longer than traffic.context_tokens 10, .* 10 tokens"):
        recorded_traffic(make_scene(context_tokens=10), read_traced(written("short.parquet")))
