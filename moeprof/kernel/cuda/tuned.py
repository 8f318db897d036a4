"""The table of which variant of moeprof's CUDA kernels is fastest where, as a file."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_type_hints

from moeprof.errors import InputError
from moeprof.resources import data_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SCHEMA: Final = 1
VARIABLE: Final = "MOEPROF_TUNED"
# A shape this far from the one asked, in octaves of its sizes and tokens added up, says little.
_NEAR_OCTAVES: Final = 2.0
_KINDS: Final = {str: "text", int: "a whole number above 0", float: "a number above 0"}
_HINT: Final = "`moeprof kernels tune --out FILE` writes such a table."


@dataclass(frozen=True, slots=True)
class TunedShape:
    """What a variant is chosen by: `architecture` as `sm_90a`, `dtype` of the weights.

    `expert_size` and `num_experts` are those of one rank.
    """

    architecture: str
    dtype: str
    hidden_size: int
    expert_size: int
    num_experts: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class TunedEntry:
    """The variant that was fastest at a shape, in seconds per launch when it was measured."""

    shape: TunedShape
    variant: str
    latency_seconds: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a table says of a shape; `exact` where it was measured itself."""

    variant: str
    exact: bool
    entry: TunedEntry


@dataclass(frozen=True, slots=True)
class TunedTable:
    """Entries, no two of one shape; `name` is the file that they are from."""

    entries: tuple[TunedEntry, ...]
    name: str

    def lookup(self, shape: TunedShape) -> Found | None:
        """Return the entry of this shape, else the nearest, else None: the default rule decides.

        Near is an entry of the same architecture and dtype whose hidden, expert and expert-count
        sizes and tokens are at most two octaves off, all four added up; of those, equal sizes come
        before other sizes, then the least distance, then fewer tokens.
        """
        near = [
            (entry.shape != shape, not _same_layer(entry.shape, shape), octaves, entry)
            for entry in self.entries
            if (octaves := _octaves(entry.shape, shape)) is not None
        ]
        if not near:
            return None
        *_, entry = min(near, key=lambda each: (*each[:3], each[3].shape.num_tokens))
        return Found(entry.variant, entry.shape == shape, entry)

    def with_entries(self, entries: Iterable[TunedEntry]) -> TunedTable:
        """Return a table in which these entries replace those of the same shapes."""
        by_shape = {entry.shape: entry for entry in (*self.entries, *entries)}
        ordered = sorted(by_shape.values(), key=lambda entry: tuple(asdict(entry.shape).values()))
        return TunedTable(tuple(ordered), self.name)


def user_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where the user's table is: MOEPROF_TUNED, else `~/.config/moeprof/tuned.json`."""
    if named := environment.get(VARIABLE):
        return Path(named)
    base = environment.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "moeprof" / "tuned.json"


def load_tables(environment: Mapping[str, str] = os.environ) -> tuple[TunedTable, ...]:
    """Return the tables to look into, in their order: the user's, then those that ship.

    Raises:
        InputError: one is damaged, or the one that MOEPROF_TUNED names is missing.

    """
    mine = user_path(environment)
    shipped = sorted((data_folder() / "tuned").glob("*.json"))
    wanted = mine.is_file() or VARIABLE in environment
    return tuple(load_table(path) for path in ((mine, *shipped) if wanted else shipped))


def look_up(tables: Iterable[TunedTable], shape: TunedShape) -> tuple[Found, TunedTable] | None:
    """Return the first exact entry of any table, else the first near one, with its table."""
    found = [(hit, table) for table in tables if (hit := table.lookup(shape)) is not None]
    return next((each for each in found if each[0].exact), found[0] if found else None)


def load_table(path: Path) -> TunedTable:
    """Read a table.

    Raises:
        InputError: it cannot be read, is of a newer schema, or a value in it is wrong.

    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}", hint=_HINT) from error
    except ValueError as error:
        raise InputError(f"{path}: is no JSON: {error}", hint=_HINT) from error
    if not isinstance(document, dict) or not isinstance(document.get("entries"), list):
        raise InputError(f"{path}: must be an object with a list `entries`", hint=_HINT)
    if document.get("schema") != SCHEMA:
        found = document.get("schema")
        raise InputError(
            f"{path}: schema must be {SCHEMA}, got {found!r}",
            hint="Write it anew with `moeprof kernels tune`, or take a newer moeprof.",
        )
    entries = [_entry(each, f"{path}: entries[{i}]") for i, each in enumerate(document["entries"])]
    return TunedTable((), path.name).with_entries(entries)


def save_table(table: TunedTable, path: Path, *, note: Mapping[str, str]) -> None:
    """Write a table, with a note of what measured it; its folder is made.

    Raises:
        InputError: it cannot be written.

    """
    entries = [{**asdict(entry.shape), **_measured(entry)} for entry in table.entries]
    document = {"schema": SCHEMA, "note": dict(note), "entries": entries}
    text = json.dumps(document, indent=1, allow_nan=False)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(f"{text}\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {error.strerror}", hint="Choose another file with --out."
        ) from error


def _measured(entry: TunedEntry) -> dict[str, Any]:
    return {"variant": entry.variant, "latency_seconds": entry.latency_seconds}


def _entry(value: object, where: str) -> TunedEntry:
    if not isinstance(value, dict):
        raise InputError(f"{where} must be an object, got {value!r}", hint=_HINT)
    kinds = {name: kind for name, kind in get_type_hints(TunedShape).items() if name != "return"}
    wanted = kinds | {"variant": str, "latency_seconds": float}
    for key in (*(wanted.keys() - value.keys()), *(value.keys() - wanted.keys())):
        fault = "is missing" if key in wanted else "is not known"
        raise InputError(f"{where}: {key} {fault}", hint=_HINT)
    for name, kind in wanted.items():
        found = value[name]
        fits = isinstance(found, int | float if kind is float else kind)
        if not fits or isinstance(found, bool) or (kind is not str and not found > 0):
            kinds_word = {str: "text", int: "a whole number above 0", float: "a number above 0"}
            raise InputError(
                f"{where}: {name} must be {kinds_word[kind]}, got {found!r}", hint=_HINT
            )
    shape = TunedShape(**{each.name: value[each.name] for each in fields(TunedShape)})
    return TunedEntry(shape, value["variant"], float(value["latency_seconds"]))


def _same_layer(shape: TunedShape, other: TunedShape) -> bool:
    return _sizes(shape)[:3] == _sizes(other)[:3]


def _sizes(shape: TunedShape) -> tuple[int, int, int, int]:
    return shape.hidden_size, shape.expert_size, shape.num_experts, shape.num_tokens


def _octaves(shape: TunedShape, other: TunedShape) -> float | None:
    """Return how far two shapes are apart, None where one says nothing of the other."""
    if (shape.architecture, shape.dtype) != (other.architecture, other.dtype):
        return None
    pairs = zip(_sizes(shape), _sizes(other), strict=True)
    octaves = sum(abs(math.log2(mine / theirs)) for mine, theirs in pairs)
    return octaves if octaves <= _NEAR_OCTAVES else None
