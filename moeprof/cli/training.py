"""The command that trains a small MoE: parse, call once, print."""

from __future__ import annotations

import os
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from moeprof.cli.options import JsonOption  # noqa: TC001 - typer reads the annotations


def train(
    recipe: Annotated[
        str, typer.Argument(help="A training recipe's file, or the name of a shipped one.")
    ],
    out: Annotated[Path, typer.Option(help="The model's folder; an unfinished one is resumed.")],
    text: Annotated[
        list[Path] | None,
        typer.Option(
            help="A text file or folder instead of Python's own library; may be repeated."
        ),
    ] = None,
    upcycle: Annotated[
        Path | None, typer.Option(help="The folder of a dense GPT-2 to grow into an MoE.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:N.")] = "auto",
    seed: Annotated[int | None, typer.Option(help="Replaces the recipe's seed.", min=0)] = None,
    json: JsonOption = False,
) -> None:
    """Train a small MoE, or a study of its auxiliary losses; resumes by itself."""
    # OpenMP's threads spin while they wait for each other. Beside one other busy process that
    # makes two of them thirty times slower (12,000 tokens/s, 400 beside a busy core); waiting soon
    # costs nothing alone and leaves 5,000.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    from moeprof.report.trained import TrainCommand, show_train

    command = TrainCommand(recipe, out, tuple(text or ()), upcycle, device, seed)
    raise typer.Exit(show_train(command, as_json=json))
