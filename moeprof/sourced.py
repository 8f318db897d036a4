"""Catalogue files: TOML found by name, in which every number carries its source."""

from __future__ import annotations

import difflib
import math
import tomllib
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeprof.errors import CatalogueError, MoeprofError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SOURCES = "sources"
_LEAF = frozenset({"value", "source"})
_HINT = 'Write a number as `{ value = 8, source = "config: num_experts" }`.'


class Kind(Enum):
    """What a key of a catalogue file holds; the value is how an error names it."""

    COUNT = "a whole number with a source"
    NUMBER = "a finite number with a source"
    TEXT = "a text"
    TEXTS = "a list of texts"


@dataclass(frozen=True, slots=True)
class Sourced:
    """One catalogue file, checked against its schema. Keys are dotted: `attention.num_heads`."""

    path: Path
    values: Mapping[str, Any]  # by key: int, float, str or tuple of str, as the schema says
    sources: Mapping[str, str]  # by key of a number: where the number comes from
    references: Mapping[str, str]  # by name used before the colon in a source: URL and comment

    def under(self, table: str) -> dict[str, Any]:
        """Return the values of one table by their names within it; empty where it is absent."""
        prefix = f"{table}."
        return {
            key.removeprefix(prefix): value
            for key, value in self.values.items()
            if key.startswith(prefix)
        }


def read(path: Path, *, required: Mapping[str, Kind], optional: Mapping[str, Kind]) -> Sourced:
    """Read one file; its keys, by dotted name, must be all of `required` and any of `optional`.

    Raises:
        CatalogueError: the file is unreadable, a key is unknown or missing, a value is of
            another kind than the schema says, or a number's source is missing or names no entry
            of `[sources]`.

    """
    tables = _parse(path)
    references = _references(path, tables.pop(_SOURCES, {}))
    schema = {**required, **optional}
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key, found in _leaves(tables, ""):
        if key not in schema:
            raise _unknown_key(path, key, schema)
        if schema[key] in (Kind.COUNT, Kind.NUMBER):
            values[key], sources[key] = _sourced_number(path, key, found, schema[key])
            _check_reference(path, key, sources[key], references)
        else:
            values[key] = _text(path, key, found, schema[key])
    for key, kind in required.items():
        if key not in values:
            message = f"{path}: {key} is missing, expected {kind.value}"
            raise CatalogueError(message, hint=_HINT)
    return Sourced(path=path, values=values, sources=sources, references=references)


def names(folder: Path) -> tuple[str, ...]:
    """Return the names of a catalogue's files, sorted."""
    return tuple(sorted(path.stem for path in folder.glob("*.toml")))


def find(
    name: str, folder: Path, *, noun: str, error: Callable[..., MoeprofError]
) -> tuple[str, Path]:
    """Return (name, file) of a catalogue entry, given by its name or as a path ending in .toml.

    Raises `error`, naming the nearest valid name, where there is no such entry or file.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            message = f"{name}: no such {noun} file"
            raise error(message, hint=f"Give the path of a {noun} file, or a catalogue name.")
        return path.stem, path
    valid = names(folder)
    if name not in valid:
        # A name cut short means the longer one, though a shorter one may differ in fewer letters.
        longer = [other for other in valid if name and other.startswith(name.lower())]
        nearest = longer or difflib.get_close_matches(name.lower(), valid, n=1)
        guess = f"; did you mean {nearest[0]!r}?" if nearest else ""
        message = f"unknown {noun} {name!r}{guess}"
        hint = f"Known are {', '.join(valid)}; or give the path of a {noun} file ending in .toml."
        raise error(message, hint=hint)
    return name, folder / f"{name}.toml"


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}"
        raise CatalogueError(message, hint="Check the path and its permissions.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        message = f"{path}: not valid TOML: {error}"
        raise CatalogueError(message, hint="See https://toml.io for the syntax.") from error


def _references(path: Path, table: object) -> dict[str, str]:
    if not isinstance(table, dict) or not all(isinstance(text, str) for text in table.values()):
        message = f"{path}: [sources] must map names to texts, got {table!r}"
        raise CatalogueError(message, hint='Write `config = "https://…"`, one line a source.')
    return table


def _leaves(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
    """Yield (dotted key, value), taking a table with `value` or `source` in it as one value."""
    for name, found in table.items():
        if isinstance(found, dict) and not _LEAF & found.keys():
            yield from _leaves(found, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", found


def _unknown_key(path: Path, key: str, schema: Mapping[str, Kind]) -> CatalogueError:
    nearest = difflib.get_close_matches(key, schema, n=1)
    guess = f"; did you mean {nearest[0]!r}?" if nearest else ""
    message = f"{path}: unknown key {key!r}{guess}"
    return CatalogueError(message, hint=f"Known keys are {', '.join(sorted(schema))}.")


def _sourced_number(path: Path, key: str, found: object, kind: Kind) -> tuple[int | float, str]:
    if not isinstance(found, dict):
        message = f"{path}: {key} must be {kind.value}, got {found!r} alone"
        raise CatalogueError(message, hint=_HINT)
    if found.keys() != _LEAF or not isinstance(found["source"], str):
        message = f"{path}: {key} must have exactly a value and a source text, got {found!r}"
        raise CatalogueError(message, hint=_HINT)
    value = found["value"]
    accepted = int if kind is Kind.COUNT else (int, float)
    # bool is an int to Python, but `true` is no count.
    if not isinstance(value, accepted) or isinstance(value, bool) or not math.isfinite(value):
        message = f"{path}: {key} must be {kind.value}, got {value!r}"
        raise CatalogueError(message, hint=_HINT)
    return (value if kind is Kind.COUNT else float(value)), found["source"]


def _check_reference(path: Path, key: str, source: str, references: Mapping[str, str]) -> None:
    name = source.partition(":")[0].strip()
    if name not in references:
        known = ", ".join(references) or "nothing"
        message = f"{path}: {key}: its source names {name!r}, but [sources] has {known}"
        raise CatalogueError(message, hint=f'Add `"{name}" = "https://…"` to [sources].')


def _text(path: Path, key: str, found: object, kind: Kind) -> str | tuple[str, ...]:
    if kind is Kind.TEXT and isinstance(found, str):
        return found
    if kind is Kind.TEXTS and isinstance(found, list) and all(isinstance(e, str) for e in found):
        return tuple(found)
    message = f"{path}: {key} must be {kind.value}, got {found!r}"
    raise CatalogueError(message, hint="Texts stand in double quotes, lists in brackets.")
