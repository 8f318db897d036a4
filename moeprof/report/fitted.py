"""What `moeprof fit-cost` shows: the fit watched, and the model's errors beside the peers'."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from moeprof.cost.assess import Peers
from moeprof.cost.fitting import FitRequest, fit_datasets
from moeprof.cost.holdout import Holdout
from moeprof.cost.model_file import load_model, save_model
from moeprof.errors import ExitCode, StoppedAtOnce, UsageError
from moeprof.report.consoles import console_on, print_json
from moeprof.report.fit_document import fit_document
from moeprof.report.fit_progress import fit_progress
from moeprof.report.fit_tables import fit_lines, noise_table, scores_table
from moeprof.report.interrupts import interrupt_on_term
from moeprof.report.suspected import suspect_lines, write_suspects

if TYPE_CHECKING:
    from collections.abc import Sequence
    from enum import StrEnum
    from pathlib import Path
    from typing import TypeVar

    from moeprof.cost.fit import FitSettings

    Choice = TypeVar("Choice", bound=StrEnum)


def fit_request(
    folders: Sequence[Path],
    *,
    holdout: str | None,
    peers: str | None,
    noise: str | None,
    sources: Sequence[str],
    seed: int,
    base: Path | None = None,
) -> FitRequest:
    """Return what is asked for, from the command line's words.

    `base` is the file of a model to adapt. A few dozen points judge no peer: without a word, they
    are left out there.

    Raises:
        UsageError: a word means nothing; the message has the words that would.
        ModelFileError: `base` is not a model.

    """
    return FitRequest(
        folders=tuple(folders),
        sources=tuple(sources),
        holdout=None if holdout is None else _choice(Holdout, holdout, "--holdout"),
        seed=seed,
        peers=_choice(Peers, peers or ("all" if base is None else "none"), "--peers"),
        noise_fractions=() if noise is None else _levels(noise),
        base=None if base is None else load_model(base),
    )


def show_fit_cost(
    request: FitRequest,
    *,
    out: Path,
    suspects: Path | None = None,
    as_json: bool,
    settings: FitSettings | None = None,
) -> ExitCode:
    """Fit a model under the eyes of the user, write it, and print what it is worth.

    Raises UsageError, DatasetError, FitError, ModelFileError, StoppedAtOnce.
    """
    if request.noise_fractions and request.holdout is Holdout.NONE:
        raise UsageError(
            "--noise is judged on rows held out, and --holdout none holds none out",
            hint="Choose another --holdout.",
        )
    _check_writable(out, "--out")
    try:
        with interrupt_on_term(), fit_progress(console_on(sys.stderr)) as on_progress:
            fitted = fit_datasets(request, settings=settings, on_progress=on_progress)
    except KeyboardInterrupt as order:
        raise StoppedAtOnce(
            "interrupted: no model was written", hint="The same command starts the fit anew."
        ) from order
    save_model(fitted.model, out)
    table = fitted.gathered.table
    if suspects is not None:
        write_suspects(table, fitted.suspects, suspects)
    if as_json:
        print_json(fit_document(fitted, out))
        return ExitCode.DONE
    console = console_on(sys.stdout)
    for shown in (scores_table(fitted.assessment), noise_table(fitted.noise)):
        if shown is not None:
            console.print(shown)
    for line in (*fit_lines(fitted), *suspect_lines(table, fitted.suspects)):
        console.print(line, soft_wrap=True)
    console.print(f"model: {out}, {out.stat().st_size / 1e6:.2f} MB", soft_wrap=True)
    console.print(f"next: moeprof predict {out} --points DATASET --out FILE", soft_wrap=True)
    return ExitCode.DONE


def _choice(kind: type[Choice], word: str, option: str) -> Choice:
    if word not in tuple(kind):
        raise UsageError(f"{option} must be one of {', '.join(kind)}, got {word!r}")
    return kind(word)


def _levels(text: str) -> tuple[float, ...]:
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if not word.replace(".", "", 1).isdecimal() or float(word) > 1:
            raise UsageError(
                f"--noise must be fractions in 0..1, got {word!r}",
                hint="For example --noise 0,0.01,0.05,0.1.",
            )
    return tuple(dict.fromkeys(float(word) for word in words))


def _check_writable(path: Path, option: str) -> None:
    # Better refused now than after the fit.
    if path.is_dir() or not path.absolute().parent.is_dir():
        found = "is a folder" if path.is_dir() else "its folder does not exist"
        raise UsageError(
            f"{option} {path}: must be a file that can be written, and {found}",
            hint=f"Give {option} a file in a folder that exists.",
        )
