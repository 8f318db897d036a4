"""How far a comparison of routers has come: a bar on a terminal, lines in a pipe."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console


@contextmanager
def routes_progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Give the function that `evaluate` tells its progress to: scene, settings done, all."""
    if not console.is_terminal:
        yield lambda scene, num_done, num_settings: console.print(
            f"[{num_done}/{num_settings}] {scene}", soft_wrap=True
        )
        return
    with Progress(
        TextColumn("{task.description:<32}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda scene, num_done, num_settings: bar.update(
            task, description=scene, completed=num_done, total=num_settings
        )
