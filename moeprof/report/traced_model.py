"""What is shown while a model's routing is recorded: a bar or lines, then the trace's summary."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, get_args

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from moeprof.errors import ExitCode, UsageError
from moeprof.huggingface.load import LoadDtype, load_model
from moeprof.report.consoles import console_on
from moeprof.report.traced import show_written
from moeprof.trace.record import RecordSettings, device_of, record_trace
from moeprof.trace.text import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from moeprof.trace.record import OnTokens

_DTYPES: Final[tuple[LoadDtype, ...]] = get_args(LoadDtype)
_LINES: Final = 10  # of progress, where there is no terminal


def show_trace(
    model: Path,
    texts: Sequence[Path],
    out: Path,
    settings: RecordSettings,
    *,
    device: str,
    dtype: str,
    as_json: bool,
) -> ExitCode:
    """Record a model's routing over texts, and print what the trace holds."""
    weights = next((known for known in _DTYPES if known == dtype), None)
    if weights is None:
        raise UsageError(f"--dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")
    read = [text_of(text) for text in texts]
    loaded = load_model(model, dtype=weights, device=device_of(device))
    with trace_progress(console_on(sys.stderr)) as on_tokens:
        record_trace(loaded, read, out, settings, on_tokens=on_tokens)
    return show_written(out, "routing", as_json=as_json)


@contextmanager
def trace_progress(console: Console) -> Iterator[OnTokens]:
    """Give the function that `record_trace` tells its progress to: a bar, or lines in a pipe."""
    if not console.is_terminal:
        told = 0

        def tell(num_done: int, num_tokens: int) -> None:
            nonlocal told
            if num_done * _LINES // num_tokens > told:
                told = num_done * _LINES // num_tokens
                console.print(f"{num_done:,} of {num_tokens:,} tokens recorded", soft_wrap=True)

        yield tell
        return
    with Progress(
        TextColumn("recording tokens"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("tokens", total=None)
        yield lambda num_done, num_tokens: bar.update(task, completed=num_done, total=num_tokens)
