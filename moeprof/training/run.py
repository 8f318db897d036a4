"""Trains a recipe's model to its end, from wherever it was interrupted."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from moeprof.dataset.files import close, make_folder
from moeprof.dataset.lock import acquire
from moeprof.errors import CheckpointError
from moeprof.training.beginning import begin
from moeprof.training.checkpoint import load_checkpoint
from moeprof.training.corpus import read_corpus, refuse_written_into
from moeprof.training.deterministic import deterministic
from moeprof.training.events import TrainingEnded
from moeprof.training.figures import FILE_NAME, read_figures
from moeprof.training.finish import finish
from moeprof.training.identity import identity_of, refuse_other
from moeprof.training.machine import open_trainer
from moeprof.training.session import CURVE_NAME, Session, Setting
from moeprof.training.texts import split_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from moeprof.recipe.load_training import LoadedTraining
    from moeprof.training.events import TrainingObserver

STATE_FOLDER: Final = "state"


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What is trained, on what, and where it goes.

    `texts` replace the standard library's; `dense` is the folder of a model to upcycle;
    `has_yardstick` has the 3-gram byte model fitted at the end.
    """

    loaded: LoadedTraining
    out: Path
    texts: tuple[Path, ...] = ()
    dense: Path | None = None
    selector: str = "auto"
    has_yardstick: bool = True


def train(
    request: TrainingRequest,
    *,
    observer: TrainingObserver,
    stop_requested: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> TrainingEnded:
    """Train, judge and save a model in a folder; what is done already is not done again.

    The run ends early where `stop_requested` says so, and goes on with the same call.

    Raises:
        TextError: a text is missing, unreadable, no text, or too short.
        CheckpointError: the folder holds another run or model, or a damaged one, or cannot be
            written.
        RecipeError: the recipe does not fit the dense model.
        LossDiverged: the loss grows without bound.
        UsageError: `dense` and the recipe do not go together, or `out` lies in the text.
        DeviceError: the device is not here, or has too little memory.
        DatasetError: another process trains in the folder.
        ExtraMissing: Transformers is not installed.

    """
    recipe, out = request.loaded.recipe, request.out
    _refuse_foreign(out)
    refuse_written_into(request.texts, out)
    corpus = read_corpus(request.texts, recipe.text)
    beginning = begin(request.loaded, request.dense)
    device, place = open_trainer(request.selector)
    try:
        with _locked(out), device.translating_errors("training"), deterministic(place):
            identity = identity_of(recipe, corpus, beginning, device.identity.kind)
            figures = read_figures(out)
            if figures is not None:
                refuse_other(out / FILE_NAME, figures.identity, identity)
                return TrainingEnded(out, figures.num_steps, figures.num_steps, figures)
            path = out / STATE_FOLDER / "checkpoint.safetensors"
            found = load_checkpoint(path)
            if found is not None:
                refuse_other(path, found[0].identity, identity)
            setting = Setting(
                loaded=request.loaded,
                out=out,
                checkpoint=path,
                corpus=corpus,
                texts=split_texts(corpus, beginning, length=recipe.text.num_window_tokens),
                beginning=beginning,
                identity=identity,
                device=device,
                place=place,
                has_yardstick=request.has_yardstick,
            )
            with Session(setting, observer, clock=clock) as session:
                session.begin(found)
                if not session.run(stop_requested):
                    return TrainingEnded(out, session.num_done, recipe.optimiser.num_steps, None)
            figures = finish(setting, session, observer)
            return TrainingEnded(out, figures.num_steps, figures.num_steps, figures)
    finally:
        device.close()


def _refuse_foreign(out: Path) -> None:
    """Raise CheckpointError if a folder has a model that would be lost: the dense one, say."""
    is_ours = (out / CURVE_NAME).exists() or (out / FILE_NAME).exists()
    if (out / "config.json").exists() and not is_ours:
        raise CheckpointError(
            f"{out}: holds a model of another origin, which would be overwritten",
            hint="Train in another folder with --out.",
        )


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Keep other processes out of a folder, which is made where there is none."""
    try:
        make_folder(out / STATE_FOLDER)
        lock = acquire(out / STATE_FOLDER / "training.lock")
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        close(lock)
