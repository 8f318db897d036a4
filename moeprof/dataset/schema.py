"""The Arrow schemas of the dataset and the one way from rows into them."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pyarrow as pa

from moeprof.dataset.columns import MEASUREMENT_COLUMNS, SAMPLE_COLUMNS, Column
from moeprof.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SCHEMA_VERSION: Final = 4
VERSION_KEY: Final = b"schema_version"

Row: TypeAlias = dict[str, Any]
Columns: TypeAlias = dict[str, list[Any]]
Key: TypeAlias = tuple[int, str, int]  # (order_index, point_id, ep_rank), unique within a run

KEY_COLUMNS: Final = ("order_index", "point_id", "ep_rank")


def field(column: Column) -> pa.Field:
    """Return a column as an Arrow field that carries its `unit` and `description`."""
    metadata = {"unit": column.unit, "description": column.description}
    return pa.field(column.name, column.type, nullable=column.nullable, metadata=metadata)


def _schema(columns: Iterable[Column]) -> pa.Schema:
    metadata = {VERSION_KEY: str(SCHEMA_VERSION)}
    return pa.schema([field(column) for column in columns], metadata=metadata)


MEASUREMENTS: Final = _schema(MEASUREMENT_COLUMNS)
SAMPLES: Final = _schema(SAMPLE_COLUMNS)

_SINCE: Final = {column.name: column.since for column in (*SAMPLE_COLUMNS, *MEASUREMENT_COLUMNS)}


def is_in_version(name: str, version: int) -> bool:
    """Return whether files of a schema version have a column, which they read as null if not."""
    return _SINCE[name] <= version


def to_columns(rows: Sequence[Row], schema: pa.Schema) -> Columns:
    """Return rows turned into columns, whose keys must be exactly the schema's names.

    Raises:
        DatasetError: a key is unknown or missing, or a value that may not be null is.

    """
    # Arrow drops unknown keys, and accepts nulls anywhere, without a word.
    names = schema.names
    expected = set(names)
    for row in rows:
        if row.keys() != expected:
            raise _wrong_keys(row, expected)
    columns = {name: [row[name] for row in rows] for name in names}
    for column in schema:
        if not column.nullable and None in columns[column.name]:
            raise DatasetError(f"column {column.name}: a row has no value, and must have one")
    return columns


def to_table(columns: Columns, schema: pa.Schema) -> pa.Table:
    """Return columns as an Arrow table of the schema.

    Raises:
        DatasetError: a value does not fit its column's type.

    """
    arrays = []
    for column in schema:
        try:
            arrays.append(pa.array(columns[column.name], type=column.type))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise DatasetError(f"column {column.name}: {error}") from error
    return pa.Table.from_arrays(arrays, schema=schema)


def joined(parts: Sequence[Columns]) -> Columns:
    """Return the columns of several parts, one after the other."""
    return {name: [value for part in parts for value in part[name]] for name in parts[0]}


def to_keys(columns: Columns) -> list[Key]:
    """Return the key of every row: (order_index, point_id, ep_rank)."""
    return list(zip(*(columns[name] for name in KEY_COLUMNS), strict=True))


def check_version(found: object, where: object) -> int:
    """Return the schema version of a file, or refuse one that is not known; `where` is the file.

    Raises:
        DatasetError: the version is missing, no whole number, or newer than `SCHEMA_VERSION`.

    """
    text = found.decode(errors="replace") if isinstance(found, bytes) else str(found)
    if found is None or not text.isdecimal() or int(text) < 1:
        raise DatasetError(
            f"{where}: must have a schema_version of 1..{SCHEMA_VERSION}, got {text}",
            hint="Only files that moeprof wrote belong into a dataset folder.",
        )
    if int(text) > SCHEMA_VERSION:
        raise DatasetError(
            f"{where}: has schema_version {text}, this moeprof reads up to {SCHEMA_VERSION}",
            hint="Update moeprof: the file was written by a newer one.",
        )
    return int(text)


def _wrong_keys(row: Row, expected: set[str]) -> DatasetError:
    for name in sorted(row.keys() - expected):
        nearest = difflib.get_close_matches(name, sorted(expected), n=1)
        guess = f"; did you mean {nearest[0]!r}?" if nearest else ""
        return DatasetError(f"row: unknown column {name!r}{guess}")
    missing = ", ".join(sorted(expected - row.keys()))
    return DatasetError(f"row: must have every column, {missing} missing (None is absent)")
