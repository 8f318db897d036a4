"""Tables of points in files: a dataset's folder, Parquet, or CSV."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq

from moeprof.cost.columns import first_row
from moeprof.dataset.files import replace_file
from moeprof.dataset.parts import MEASUREMENTS_FOLDER, part_paths, read_part
from moeprof.dataset.read import read_measurements
from moeprof.dataset.schema import MEASUREMENTS
from moeprof.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

_LIST: Final = "rows_per_expert"
_SUFFIXES: Final = (".parquet", ".csv")
# Texts that look like numbers, such as an engine's version, stay texts.
_TEXTS: Final = {
    field.name: pa.string() for field in MEASUREMENTS if pa.types.is_string(field.type)
}


def read_points(path: Path) -> pa.Table:
    """Return the table in a file ending in .parquet or .csv, or the measurements of a dataset.

    A CSV has a header with the names of a dataset's columns; an empty cell is null, and
    `rows_per_expert` is a list of counts between blanks, such as `3 0 1`. Rows of a dataset may be
    of several devices and sources.

    Raises:
        DatasetError: the file or folder cannot be read, or is nothing of the kind.

    """
    if path.is_dir():
        return _read_dataset(path)
    kind = _suffix(path)
    try:
        if kind == ".parquet":
            table = pq.read_table(path, partitioning=None)
        else:
            options = pv.ConvertOptions(
                column_types={**_TEXTS, _LIST: pa.string()},
                strings_can_be_null=True,
                null_values=[""],
            )
            table = pv.read_csv(path, convert_options=options)
    except OSError as error:
        why = error.strerror or error
        raise DatasetError(
            f"{path}: cannot be read: {why}", hint="Give a Parquet or CSV file of points."
        ) from error
    except pa.ArrowInvalid as error:
        raise DatasetError(
            f"{path}: is not {kind.removeprefix('.')}: {error}",
            hint="Give a file with a dataset's columns, one row for each point.",
        ) from error
    _refuse_repeated_names(path, table)
    if not table.num_rows:
        raise DatasetError(f"{path}: must have at least one row", hint="Give a row per point.")
    return _with_lists(table)


def write_points(table: pa.Table, path: Path) -> None:
    """Write a table to a file ending in .parquet or .csv, seen by readers whole or not at all.

    In CSV, lists are written as `read_points` reads them.

    Raises:
        DatasetError: the file cannot be written, or its name ends otherwise.

    """
    sink = pa.BufferOutputStream()
    if _suffix(path) == ".parquet":
        pq.write_table(table, sink)
    else:
        pv.write_csv(_without_lists(table), sink)
    try:
        replace_file(path, sink.getvalue().to_pybytes())
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be written: {error.strerror}",
            hint="Give a file in a folder that exists and can be written to.",
        ) from error


def check_out(path: Path) -> None:
    """Return if `write_points` can write a file of this name.

    Raises:
        DatasetError: its name ends otherwise than in .parquet or .csv.

    """
    _suffix(path)


def _read_dataset(folder: Path) -> pa.Table:
    parts = [read_part(each, MEASUREMENTS) for each in part_paths(folder / MEASUREMENTS_FOLDER)]
    if not parts:
        return read_measurements(folder)
    kinds = pa.concat_tables([part.select(["source", "device_kind"]) for part in parts])
    return read_measurements(
        folder,
        sources=pc.unique(kinds["source"]).to_pylist(),
        device_kinds=pc.unique(kinds["device_kind"]).to_pylist(),
    )


def _suffix(path: Path) -> str:
    found = path.suffix.lower()
    if found not in _SUFFIXES:
        raise DatasetError(
            f"{path}: must end in {' or '.join(_SUFFIXES)}, got {found or 'no ending'!r}",
            hint="The ending says how points are written; a dataset's folder can be read too.",
        )
    return found


def _refuse_repeated_names(path: Path, table: pa.Table) -> None:
    names = table.column_names
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise DatasetError(
            f"{path}: column {repeated} must stand there once, and stands there more often",
            hint="Remove or rename one of the columns.",
        )


def _with_lists(table: pa.Table) -> pa.Table:
    place = table.column_names.index(_LIST) if _LIST in table.column_names else -1
    if place < 0 or not pa.types.is_string(table[_LIST].type):
        return table
    texts = pc.utf8_trim_whitespace(table[_LIST])
    right = pc.match_substring_regex(texts, r"^\d{1,9}(\s+\d{1,9})*$")
    faulty = ~np.asarray(pc.fill_null(right, True), dtype=bool)
    first_row(faulty, f"{_LIST} must be counts between blanks, such as '3 0 1'", texts.to_numpy())
    lists = pc.split_pattern_regex(texts, r"\s+").cast(pa.list_(pa.int32()))
    return table.set_column(place, _LIST, lists)


def _without_lists(table: pa.Table) -> pa.Table:
    for place, name in enumerate(table.column_names):
        if pa.types.is_list(table[name].type):
            rows = table[name].to_pylist()
            texts = [None if row is None else _text(row) for row in rows]
            table = table.set_column(place, name, pa.array(texts, pa.string()))
    return table


def _text(row: list[object]) -> str:
    nested = any(isinstance(each, dict) for each in row)
    return json.dumps(row) if nested else " ".join(map(str, row))
