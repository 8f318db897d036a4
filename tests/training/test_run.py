"""A run from nothing to a saved model, what it writes, and what it refuses."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest
import torch
from training.examples import RECIPE, Listener, recipe_at, text_at

from moeprof.dataset.lock import acquire
from moeprof.errors import CheckpointError, DatasetError, DeviceUnavailable, RecipeError, UsageError
from moeprof.gate.site import find_gates
from moeprof.huggingface.load import load_model
from moeprof.training.checkpoint import load_checkpoint, save_checkpoint
from moeprof.training.curve import read_curve
from moeprof.training.figures import read_figures
from moeprof.training.judge import judge
from moeprof.training.run import TrainingRequest, train
from moeprof.training.windows import TokenText

if TYPE_CHECKING:
    from pathlib import Path

    from moeprof.training.events import TrainingEnded


def run(folder: Path, recipe: str = RECIPE, *, stop_after: int | None = None) -> TrainingEnded:
    listener = Listener(stop_after)
    request = TrainingRequest(
        recipe_at(folder, recipe), folder / "out", texts=(text_at(folder),), selector="cpu"
    )
    return train(request, observer=listener, stop_requested=listener.stop_requested)


@pytest.mark.parametrize("family", ["qwen3-moe", "mixtral", "deepseek-v3"])
def test_a_model_is_trained_saved_and_judged_as_it_was_saved(tmp_path: Path, family: str) -> None:
    recipe = RECIPE.replace("[model]", f'[model]\nfamily = "{family}"') + (
        "\n[gate]\nsoftmax_temperature = 1.5\nbias_update_speed = 0.01\n"
    )
    ended = run(tmp_path, recipe)

    assert ended.figures is not None
    assert ended.figures == read_figures(tmp_path / "out")
    loaded = load_model(tmp_path / "out")
    assert loaded.family == family
    held_out = (tmp_path / "out" / "held-out.txt").read_bytes()
    text = TokenText(torch.tensor(loaded.encode(held_out)).numpy(), len(held_out))
    again = judge(
        loaded.model,
        text,
        length=16,
        num_per_batch=4,
        num_windows_max=None,
        device=torch.device("cpu"),
    )
    assert again == ended.figures.test
    tuning = find_gates(loaded.model)[0].rule.tuning
    assert tuning.softmax_temperature == 1.5
    assert tuning.selection_bias is not None
    assert tuning.selection_bias.abs().max() > 0


def test_the_loss_falls_and_the_curve_has_a_row_per_step(tmp_path: Path) -> None:
    recipe = RECIPE.replace("num_steps = 20", "num_steps = 60")
    recipe = recipe.replace("learning_rate = 0.003", "learning_rate = 0.02")
    run(tmp_path, recipe)

    curve = read_curve(tmp_path / "out" / "curve.jsonl")
    assert [row["step"] for row in curve] == list(range(1, 61))
    first, last = curve[0], curve[-1]
    assert first["bits_per_byte"] == pytest.approx(8, abs=0.2)
    assert last["bits_per_byte"] < 7
    assert last["bits_per_byte"] == pytest.approx(last["cross_entropy_nats"] / math.log(2))
    assert last["losses"]["switch"] == pytest.approx(0.01, rel=0.2)
    validated = [row["step"] for row in curve if row["validation_bits_per_byte"] is not None]
    assert validated == list(range(5, 61, 5))


def test_a_second_run_is_the_first_to_the_bit_and_another_seed_is_not(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        folder.mkdir()
    for folder, recipe in zip(
        folders, (RECIPE, RECIPE, RECIPE.replace("seed = 3", "seed = 4")), strict=True
    ):
        run(folder, recipe)

    one, two, three = ((folder / "out" / "curve.jsonl").read_bytes() for folder in folders)
    assert one == two
    assert one != three
    weights = [(folder / "out" / "model.safetensors").read_bytes() for folder in folders]
    assert weights[0] == weights[1]


def test_a_stopped_run_goes_on_to_the_same_curve(tmp_path: Path) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    run(tmp_path / "whole")
    stops = [run(tmp_path / "parts", stop_after=steps) for steps in (1, 7, 4)]
    ended = run(tmp_path / "parts")

    assert [stop.num_done for stop in stops] == [1, 8, 12]
    assert {int(stop.exit_code) for stop in stops} == {130}
    assert int(ended.exit_code) == 0
    for name in ("curve.jsonl", "model.safetensors"):
        whole, parts = (tmp_path / each / "out" / name for each in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes()


def test_a_finished_run_is_not_done_again(tmp_path: Path) -> None:
    first = run(tmp_path)
    listener = Listener()
    request = TrainingRequest(
        recipe_at(tmp_path), tmp_path / "out", texts=(tmp_path / "text.txt",), selector="cpu"
    )
    again = train(request, observer=listener)

    assert again.figures == first.figures
    assert not listener.steps


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("other", ["recipe", "text"])
def test_another_recipe_or_text_is_refused(tmp_path: Path, other: str, finished: bool) -> None:  # noqa: FBT001
    run(tmp_path, stop_after=None if finished else 2)
    recipe = RECIPE.replace("num_steps = 20", "num_steps = 21") if other == "recipe" else RECIPE
    text = text_at(tmp_path)
    if other == "text":
        text.write_text(text.read_text(encoding="utf-8") + "more", encoding="utf-8")
    request = TrainingRequest(
        recipe_at(tmp_path, recipe), tmp_path / "out", texts=(text,), selector="cpu"
    )
    with pytest.raises(CheckpointError, match=f"is of another {other}") as caught:
        train(request, observer=Listener())

    assert caught.value.hint
    assert "--out" in caught.value.hint


def test_a_model_of_another_origin_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "out" / name).write_bytes(b"precious")
    with pytest.raises(CheckpointError, match="holds a model of another origin") as caught:
        run(tmp_path)

    assert "--out" in (caught.value.hint or "")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == b"precious"
    assert not (tmp_path / "out" / "state").exists()


def test_a_run_is_not_written_into_its_own_text(tmp_path: Path) -> None:
    request = TrainingRequest(
        recipe_at(tmp_path), tmp_path / "deep" / "out", (tmp_path,), selector="cpu"
    )
    with pytest.raises(UsageError, match="lies in the text folder"):
        train(request, observer=Listener())

    assert not (tmp_path / "deep").exists()


def test_a_checkpoint_with_other_tensors_names_its_file(tmp_path: Path) -> None:
    run(tmp_path, stop_after=2)
    path = tmp_path / "out" / "state" / "checkpoint.safetensors"
    found = load_checkpoint(path)
    assert found is not None
    place, tensors = found
    save_checkpoint(path, place, tensors | {"model.another": torch.zeros(1)})

    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors: its tensors are not"):
        run(tmp_path)


class _EndsWhenJudged(Listener):
    """A process that dies while the saved model is judged."""

    def judging(self, what: str) -> None:
        super().judging(what)
        if len(self.judged) > 1:
            raise RuntimeError("killed")


def test_a_run_that_dies_while_it_is_judged_is_judged_again(tmp_path: Path) -> None:
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole = run(tmp_path / "whole").figures
    folder = tmp_path / "broken"
    request = TrainingRequest(
        recipe_at(folder), folder / "out", texts=(text_at(folder),), selector="cpu"
    )
    with pytest.raises(RuntimeError, match="killed"):
        train(request, observer=_EndsWhenJudged())
    assert (folder / "out" / "model.safetensors").exists()
    again = run(folder).figures

    assert whole is not None
    assert again is not None
    assert again.test == whole.test
    assert again.best_validation_bits_per_byte == whole.best_validation_bits_per_byte
    assert not (folder / "out" / "state" / "checkpoint.safetensors").exists()


def test_how_often_a_run_is_kept_may_change(tmp_path: Path) -> None:
    run(tmp_path, stop_after=2)
    slower = RECIPE.replace("checkpoint_every_seconds = 0", "checkpoint_every_seconds = 60")

    assert run(tmp_path, slower).figures is not None


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    (tmp_path / "out" / "state").mkdir(parents=True)
    acquire(tmp_path / "out" / "state" / "training.lock")

    with pytest.raises(DatasetError, match="is being written by another process"):
        run(tmp_path)


def test_a_loss_without_bound_is_a_clear_error_and_leaves_no_line(tmp_path: Path) -> None:
    recipe = RECIPE.replace("weight = 0.01", "weight = 1e38")
    with pytest.raises(RecipeError, match="grew without bound at step 0"):
        run(tmp_path, recipe)

    assert read_curve(tmp_path / "out" / "curve.jsonl") == []


def test_a_resumed_run_with_other_threads_says_so(tmp_path: Path) -> None:
    run(tmp_path, stop_after=2)
    listener = Listener(1)
    request = TrainingRequest(
        recipe_at(tmp_path), tmp_path / "out", texts=(text_at(tmp_path),), selector="cpu"
    )
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        train(request, observer=listener, stop_requested=listener.stop_requested)
    finally:
        torch.set_num_threads(before)

    (concern,) = listener.began[0].concerns
    assert f"threads {before + 1} instead of {before}" in concern


def test_a_simulated_device_trains_nothing(tmp_path: Path) -> None:
    request = TrainingRequest(
        recipe_at(tmp_path), tmp_path / "out", (text_at(tmp_path),), selector="sim:h200-sxm"
    )
    with pytest.raises(DeviceUnavailable, match="needs a real device"):
        train(request, observer=Listener())


def test_upcycle_without_its_section_is_refused(tmp_path: Path) -> None:
    request = TrainingRequest(
        recipe_at(tmp_path), tmp_path / "out", (text_at(tmp_path),), dense=tmp_path
    )
    with pytest.raises(UsageError, match="no section upcycle"):
        train(request, observer=Listener())


def test_what_the_machine_tells_is_kept_beside_the_curve(tmp_path: Path) -> None:
    run(tmp_path)

    lines = (tmp_path / "out" / "machine.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 20
    assert all(row["tokens_per_second"] > 0 and row["peak_bytes"] > 2**20 for row in rows)
    assert all({"watts", "die_celsius"} <= row.keys() for row in rows)
