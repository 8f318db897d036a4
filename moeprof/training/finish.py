"""What is done when all steps are: the model is saved, loaded again, and judged as it was saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moeprof.dataset.files import remove, replace_file
from moeprof.errors import CheckpointError
from moeprof.huggingface.load import load_model
from moeprof.training.figures import Figures, write_figures
from moeprof.training.identity import conditions
from moeprof.training.judge import judge
from moeprof.training.ngram import fit_trigram
from moeprof.training.save import save_model

if TYPE_CHECKING:
    from moeprof.training.events import TrainingObserver
    from moeprof.training.session import Session, Setting

HELD_OUT_NAME: Final = "held-out.txt"


def finish(setting: Setting, session: Session, observer: TrainingObserver) -> Figures:
    """Save the model, judge what was saved, write the figures and remove the checkpoint.

    The test split is written too, as the text that traces are recorded over. A kill on the way
    leaves the checkpoint, and the same command does this again. Raises CheckpointError.
    """
    recipe, corpus = setting.loaded.recipe, setting.corpus
    observer.judging("saving the model")
    save_model(
        setting.out,
        session.learner,
        recipe,
        beginning=setting.beginning,
        identity=setting.identity,
    )
    try:
        replace_file(setting.out / HELD_OUT_NAME, corpus.test)
    except OSError as error:
        raise CheckpointError(f"{setting.out}: cannot be written: {error.strerror}") from error
    saved = load_model(setting.out, device=str(setting.place)).model
    observer.judging("judging the saved model on the test split")
    judged = judge(
        saved,
        setting.texts.test,
        length=recipe.text.num_window_tokens,
        num_per_batch=recipe.optimiser.num_windows_per_step,
        num_windows_max=recipe.watch.num_test_windows_max,
        device=setting.place,
    )
    trigram = None
    if setting.has_yardstick:
        observer.judging("fitting the 3-gram byte model")
        trigram = fit_trigram(corpus.train, corpus.validation).bits_per_byte(corpus.test)
    assert session.best is not None, "the last step is always validated"
    assert session.validation is not None, "the last step is always validated"
    num_train_tokens = (
        recipe.optimiser.num_steps
        * recipe.optimiser.num_windows_per_step
        * recipe.text.num_window_tokens
    )
    figures = Figures(
        recipe_name=recipe.name,
        seed=recipe.seed,
        identity=setting.identity,
        conditions=conditions(),
        text_source=corpus.source,
        num_files=corpus.num_files,
        num_train_bytes=len(corpus.train),
        num_parameters=sum(each.numel() for each in session.learner.model.parameters()),
        num_steps=recipe.optimiser.num_steps,
        num_train_tokens=num_train_tokens,
        spent_seconds=session.spent_seconds,
        best_validation_bits_per_byte=session.best[0],
        best_validation_step=session.best[1],
        last_validation_bits_per_byte=session.validation,
        test=judged,
        trigram_bits_per_byte=trigram,
    )
    write_figures(setting.out, figures)
    remove(setting.checkpoint)
    return figures
