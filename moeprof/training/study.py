"""A recipe's variants trained under several seeds, on all cores, to be compared."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from moeprof.dataset.files import make_folder, replace_file
from moeprof.errors import CheckpointError, ExitCode
from moeprof.recipe.load_training import LoadedTraining
from moeprof.recipe.training import TrainingRecipe
from moeprof.training.corpus import read_corpus, refuse_written_into
from moeprof.training.ngram import fit_trigram
from moeprof.training.run import TrainingRequest
from moeprof.training.study_workers import trained

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from moeprof.training.figures import Figures

FILE_NAME: Final = "study.json"


@dataclass(frozen=True, slots=True)
class StudyRun:
    """One variant under one seed, a training run like any other."""

    variant: str
    seed: int
    request: TrainingRequest


@dataclass(frozen=True, slots=True)
class VariantRuns:
    """What one variant came to, one run per seed; `diverged` says why of those without figures."""

    name: str
    runs: tuple[Figures, ...]
    diverged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StudyEnded:
    """A study is done, or was asked to stop: then `variants` are those with every seed done."""

    recipe_name: str
    out: Path
    num_done: int
    num_runs: int
    variants: tuple[VariantRuns, ...]
    trigram_bits_per_byte: float | None

    @property
    def exit_code(self) -> ExitCode:
        """The exit code that a study with this end deserves."""
        return ExitCode.DONE if self.num_done == self.num_runs else ExitCode.INTERRUPTED


class StudyObserver(Protocol):
    """Hears how far a study has come."""

    def started(self, name: str, num_runs: int, num_workers: int) -> None:
        """Take what the study is about to do."""

    def finished(self, run: StudyRun, outcome: Figures | str, num_done: int, num_runs: int) -> None:
        """Take what one run came to: figures, or why there are none."""


def study_runs(
    loaded: LoadedTraining, out: Path, texts: Sequence[Path] = ()
) -> tuple[StudyRun, ...]:
    """Return every variant under every seed, all variants under the first seed first.

    Each has a folder of its own, `VARIANT/seed-N`.
    """
    recipe = loaded.recipe
    runs = []
    for seed in range(recipe.seed, recipe.seed + recipe.num_seeds):
        for variant in recipe.variants:
            own = TrainingRecipe.model_validate(
                recipe.model_dump(exclude={"variants", "num_seeds"})
                | {
                    "name": f"{recipe.name}-{variant.name}",
                    "seed": seed,
                    "losses": [loss.model_dump() for loss in variant.losses],
                    "gate": variant.gate.model_dump(),
                }
            )
            folder = out / variant.name / f"seed-{seed}"
            one = LoadedTraining(path=loaded.path, recipe=own)
            request = TrainingRequest(
                one, folder, texts=tuple(texts), selector="cpu", has_yardstick=False
            )
            runs.append(StudyRun(variant.name, seed, request))
    return tuple(runs)


def run_study(
    loaded: LoadedTraining,
    out: Path,
    *,
    texts: Sequence[Path] = (),
    num_workers: int,
    observer: StudyObserver,
    stop_requested: Callable[[], bool] = lambda: False,
) -> StudyEnded:
    """Train what is not trained yet, one thread per run, and write `study.json`.

    A variant whose loss grows without bound is told of, and the others go on.

    Raises what else `train` raises, CheckpointError where `out` cannot be written, and DeviceError
    where a worker was ended from outside.
    """
    refuse_written_into(texts, out)
    corpus = read_corpus(texts, loaded.recipe.text)
    runs = study_runs(loaded, out, texts)
    num_workers = min(num_workers, len(runs))
    try:
        make_folder(out)
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be written: {error.strerror}") from error
    observer.started(loaded.recipe.name, len(runs), num_workers)
    done: dict[StudyRun, Figures | str] = {}
    for index, outcome in trained(
        [run.request for run in runs],
        num_workers=num_workers,
        stop_requested=stop_requested,
    ):
        done[runs[index]] = outcome
        observer.finished(runs[index], outcome, len(done), len(runs))
    trigram = None
    if len(done) == len(runs):
        trigram = fit_trigram(corpus.train, corpus.validation).bits_per_byte(corpus.test)
    ended = StudyEnded(
        recipe_name=loaded.recipe.name,
        out=out,
        num_done=len(done),
        num_runs=len(runs),
        variants=_by_variant(runs, done),
        trigram_bits_per_byte=trigram,
    )
    if trigram is not None:
        _write(out / FILE_NAME, ended)
    return ended


def study_document(ended: StudyEnded) -> dict[str, Any]:
    """Return a study as plain values, every run's figures under its variant."""
    return {
        "recipe": ended.recipe_name,
        "num_done": ended.num_done,
        "num_runs": ended.num_runs,
        "trigram_bits_per_byte": ended.trigram_bits_per_byte,
        "variants": [
            {
                "name": each.name,
                "runs": [asdict(figures) for figures in each.runs],
                "diverged": list(each.diverged),
            }
            for each in ended.variants
        ],
    }


def _by_variant(
    runs: Sequence[StudyRun], done: dict[StudyRun, Figures | str]
) -> tuple[VariantRuns, ...]:
    names = dict.fromkeys(run.variant for run in runs)
    by_name = {name: [run for run in runs if run.variant == name] for name in names}
    return tuple(
        VariantRuns(
            name,
            tuple(each for run in own if not isinstance(each := done[run], str)),
            tuple(each for run in own if isinstance(each := done[run], str)),
        )
        for name, own in by_name.items()
        if all(run in done for run in own)
    )


def _write(path: Path, ended: StudyEnded) -> None:
    text = json.dumps(study_document(ended), indent=1, allow_nan=False)
    try:
        replace_file(path, f"{text}\n".encode())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror}") from error
