"""How far a fit and its judgement have come: a bar on a terminal, lines in a pipe."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from moeprof.cost.fitting import OnProgress


@contextmanager
def fit_progress(console: Console) -> Iterator[OnProgress]:
    """Give the function that `fit_datasets` tells its progress to."""
    if not console.is_terminal:
        yield lambda what, part, num_done, num_steps: console.print(
            f"[{num_done}/{num_steps}] {_words(what, part)}", soft_wrap=True
        )
        return
    with Progress(
        TextColumn("{task.description:<40}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda what, part, num_done, num_steps: bar.update(
            task, description=_words(what, part), completed=num_done, total=num_steps
        )


def _words(what: str, part: str) -> str:
    return f"{what}: {part}" if part else what
