"""The text that a model is trained on, split by file into train, validation and test."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from moeprof.errors import TextError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from moeprof.recipe.training import TextSection

# A form feed, ASCII's page break, on a line of its own: files stay text when they are joined.
SEPARATOR = b"\n\f\n"
# Tests repeat what they test; the others are not the language's own, or written by the build.
_LEFT_OUT = {"site-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__"}
_WRITTEN_BY_THE_BUILD = ("_sysconfigdata", "config-")
_TOPICS = "pydoc_data/topics.py"  # taken topic by topic, so that none is in two splits


@dataclass(frozen=True, slots=True)
class TextFile:
    """One file's bytes under the name that decides which split it belongs to."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Corpus:
    """Three texts that share no file, and what they were made of.

    `fingerprint` is the SHA-256 of every split's bytes; `num_left_out` are files that are no text
    or repeat another.
    """

    source: str
    train: bytes
    validation: bytes
    test: bytes
    num_files: int
    num_left_out: int
    fingerprint: str


def standard_library() -> list[TextFile]:
    """Return the running Python's own sources and its documentation topics, by name."""
    folder = Path(os.__file__).parent
    files = [
        TextFile(name, path.read_bytes())
        for path in folder.rglob("*.py")
        for parts in [path.relative_to(folder).parts]
        for name in ["/".join(parts)]
        if not _LEFT_OUT & set(parts)
        and not any(part.startswith(_WRITTEN_BY_THE_BUILD) for part in parts)
        and name != _TOPICS
    ]
    if find_spec("pydoc_data.topics") is not None:
        from pydoc_data.topics import topics  # noqa: PLC0415 - half a megabyte of text

        files += [TextFile(f"{_TOPICS}/{name}", text.encode()) for name, text in topics.items()]
    return sorted(files, key=lambda file: file.name)


def read_texts(paths: Sequence[Path]) -> tuple[list[TextFile], int]:
    """Return the text files at `paths`, folders searched, and the number that are no text.

    Raises TextError: a path is missing or unreadable, or a file that was named is not text.
    """
    files, num_not_text = [], 0
    for path in paths:
        if path.is_dir():
            found = [(each, each.relative_to(path).as_posix()) for each in _visible(path)]
        elif path.exists():
            found = [(path, path.name)]
        else:
            raise TextError(f"{path}: there is no such text file or folder")
        for each, name in found:
            data = _read(each)
            if _is_text(data):
                files.append(TextFile(name, data))
            elif path.is_dir():
                num_not_text += 1
            else:
                raise TextError(f"{path}: must be UTF-8 text, and is not")
    return sorted(files, key=lambda file: (file.name, file.data)), num_not_text


def read_corpus(paths: Sequence[Path], section: TextSection) -> Corpus:
    """Return the text at `paths`, or of the standard library where there are none, split by file.

    A file's split follows from the SHA-256 of its name, so that other files cannot change it; a
    lone file is cut into three stretches instead.

    Raises TextError: a text is missing, unreadable, no text, or too short for the recipe's window.
    """
    if paths:
        source = ", ".join(str(path) for path in paths)
        files, num_left_out = read_texts(paths)
    else:
        version = sys.version_info
        source = f"the standard library of Python {version.major}.{version.minor}.{version.micro}"
        files, num_left_out = standard_library(), 0
    different = {file.data.strip(): file for file in reversed(files)}
    different.pop(b"", None)
    kept = sorted(different.values(), key=lambda file: file.name)
    splits = _cut(kept[0].data, section) if len(kept) == 1 else _by_name(kept, section)
    for split, data in zip(("train", "validation", "test"), splits, strict=True):
        _refuse_too_short(source, split, data, section.num_window_tokens)
    return Corpus(
        source=source,
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        num_files=len(kept),
        num_left_out=num_left_out + len(files) - len(kept),
        fingerprint=_fingerprint(splits),
    )


def refuse_written_into(paths: Sequence[Path], out: Path) -> None:
    """Raise UsageError if what is written to `out` would become part of the text at `paths`."""
    for path in paths:
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise UsageError(
                f"--out {out}: lies in the text folder {path}, whose text it would change",
                hint="Give a folder outside of the text.",
            )


def _visible(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TextError(f"{path}: cannot be read: {error.strerror}") from error


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in data


def _by_name(files: Iterable[TextFile], section: TextSection) -> tuple[bytes, bytes, bytes]:
    parts: tuple[list[bytes], list[bytes], list[bytes]] = ([], [], [])
    for file in files:
        digest = hashlib.sha256(file.name.encode()).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        in_test = place < section.test_fraction
        in_validation = place < section.test_fraction + section.validation_fraction
        parts[2 if in_test else 1 if in_validation else 0].append(file.data)
    train, validation, test = (SEPARATOR.join(part) for part in parts)
    return train, validation, test


def _cut(data: bytes, section: TextSection) -> tuple[bytes, bytes, bytes]:
    first_test = round(len(data) * (1 - section.test_fraction))
    first_validation = first_test - round(len(data) * section.validation_fraction)
    return data[:first_validation], data[first_validation:first_test], data[first_test:]


def _refuse_too_short(source: str, split: str, data: bytes, num_window_tokens: int) -> None:
    # A window's last byte is only predicted, so it takes one more than the window is long.
    if len(data) > num_window_tokens:
        return
    found = f"{len(data)} bytes" if data else "nothing"
    raise TextError(
        f"{source}: its {split} split must hold more than one window of {num_window_tokens} "
        f"tokens, and holds {found}",
        hint="Give more text, or a smaller text.num_window_tokens in the recipe.",
    )


def _fingerprint(splits: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for data in splits:
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()
