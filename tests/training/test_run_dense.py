"""A run that begins with a dense GPT-2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from training.examples import RECIPE, Listener, recipe_at, text_at

from moeprof.errors import CheckpointError, RecipeError, UsageError
from moeprof.gate.site import find_gates
from moeprof.huggingface.extra import quiet, transformers
from moeprof.huggingface.load import load_model
from moeprof.training.curve import read_curve
from moeprof.training.run import TrainingRequest, train

if TYPE_CHECKING:
    from pathlib import Path

    from moeprof.training.events import TrainingEnded

_BEFORE, _, _AFTER = RECIPE.partition("[model]")
UPCYCLED = (
    _BEFORE
    + "[upcycle]\nlayers = [1]\nnum_experts = 4\ntop_k = 2\n\n[text]"
    + _AFTER.partition("[text]")[2]
)


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    library = transformers()
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = library.GPT2Config(
            vocab_size=256,
            n_positions=64,
            n_embd=16,
            n_layer=2,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
        )
        library.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    return tmp_path / "gpt2"


def run(folder: Path, dense: Path | None, recipe: str = UPCYCLED) -> TrainingEnded:
    request = TrainingRequest(
        recipe_at(folder, recipe), folder / "out", (text_at(folder),), dense, selector="cpu"
    )
    return train(request, observer=Listener())


def test_an_upcycled_model_is_trained_saved_and_loaded(tmp_path: Path, dense: Path) -> None:
    ended = run(tmp_path, dense)

    assert ended.figures is not None
    loaded = load_model(tmp_path / "out")
    assert loaded.family == "upcycled"
    assert [site.layer for site in find_gates(loaded.model)] == [1]
    curve = read_curve(tmp_path / "out" / "curve.jsonl")
    assert len(curve) == 20
    assert curve[-1]["cross_entropy_nats"] < curve[0]["cross_entropy_nats"]


def test_dropout_of_a_resumed_run_is_that_of_an_undisturbed_one(
    tmp_path: Path, dense: Path
) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    run(tmp_path / "whole", dense)
    listener = Listener(stop_after=7)
    folder = tmp_path / "parts"
    request = TrainingRequest(
        recipe_at(folder, UPCYCLED), folder / "out", (text_at(folder),), dense, selector="cpu"
    )
    train(request, observer=listener, stop_requested=listener.stop_requested)
    run(folder, dense)

    curves = [tmp_path / name / "out" / "curve.jsonl" for name in ("whole", "parts")]
    assert curves[0].read_bytes() == curves[1].read_bytes()


def test_another_dense_model_is_refused(tmp_path: Path, dense: Path) -> None:
    run(tmp_path, dense)
    recipe = UPCYCLED.replace("layers = [1]", "layers = [1]\nseed = 5")
    with pytest.raises(CheckpointError, match="another recipe or seed and another dense model"):
        run(tmp_path, dense, recipe)


def test_a_recipe_that_upcycles_needs_a_dense_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="upcycles a dense model") as caught:
        run(tmp_path, None)

    assert "--upcycle DIR" in (caught.value.hint or "")


def test_a_window_longer_than_the_models_positions_is_refused(tmp_path: Path, dense: Path) -> None:
    recipe = UPCYCLED.replace("num_window_tokens = 16", "num_window_tokens = 65")
    with pytest.raises(RecipeError, match="num_window_tokens must be at most 64"):
        run(tmp_path, dense, recipe)
