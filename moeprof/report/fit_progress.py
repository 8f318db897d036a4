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
        yield _Lines(console).tell
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


class _Lines:
    """One line when something else is begun, not for every part of it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ""

    def tell(self, what: str, part: str, num_done: int, num_steps: int) -> None:
        count = f"[{num_done}/{num_steps}] " if num_steps > 1 else ""
        first = f"{what} {part.partition(' ')[0]}"
        if first != self._last:
            self._console.print(f"{count}{_words(what, part)}", soft_wrap=True)
        self._last = first


def _words(what: str, part: str) -> str:
    return f"{what}: {part}" if part else what
