"""Texts to trace, and the requests that they are cut into."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.huggingface.text import read_text
from moeprof.trace.metadata import SourceFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Text:
    """A text as bytes, with what a trace keeps of it."""

    source: SourceFile
    content: bytes


def text_of(path: Path) -> Text:
    """Return the text in a file. Raises TextError: it is missing, unreadable or empty."""
    content = read_text(path)
    return Text(describe(path.name, content), content)


def describe(name: str, content: bytes) -> SourceFile:
    """Return what a trace keeps of a file."""
    return SourceFile(name, hashlib.sha256(content).hexdigest(), len(content))


def windows(token_ids: Sequence[int], window: int) -> Iterator[Sequence[int]]:
    """Yield the tokens in runs of `window`, the last one shorter if need be."""
    for start in range(0, len(token_ids), window):
        yield token_ids[start : start + window]
