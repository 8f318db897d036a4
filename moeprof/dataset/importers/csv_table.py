"""Anybody's CSV turned into points of moeprof's schema, as a map says."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc

from moeprof.dataset.importers.csv_map import REALS, RELATIVE, TEXTS, UNITS, WHOLE
from moeprof.dataset.importers.points import Points, complete, judge
from moeprof.errors import DatasetError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from moeprof.dataset.importers.csv_map import CsvMap

_GATED = 3


def read_points(path: Path, layout: CsvMap) -> Points:
    """Return the rows of a CSV as points, in the file's order.

    `ep_size` and `tp_size` are 1 and `num_projections` 3 unless the map says otherwise; an empty
    cell is null. Row counts are those that the map gives, else follow from the routing pattern.

    Raises:
        DatasetError: the file is unreadable, or has no rows.
        InputError: the map names a column that the CSV has not, or a value that means nothing.

    """
    table = _read(path)
    _check_columns(path, table, layout)
    points = Points(table.num_rows)
    for name in TEXTS:
        if (texts := _texts(table, layout, name)) is not None:
            points.texts[name] = texts
    for name in (*WHOLE, *REALS, *RELATIVE):
        if (numbers := _numbers(path, table, layout, name)) is not None:
            points.numbers[name] = numbers
    points.texts["device_name"] = [each or "unknown" for each in points.text("device_name")]
    points.texts["kernel"] = [each or "unknown" for each in points.text("kernel")]
    for name, usual in (("ep_size", 1.0), ("tp_size", 1.0), ("num_projections", _GATED)):
        values = points.number(name)
        points.numbers[name] = np.where(np.isnan(values), usual, values)
    judge(points)
    _count_relative(points)
    complete(points)
    return points


def _read(path: Path) -> pa.Table:
    if not path.is_file():
        raise DatasetError(f"{path}: there is no such file", hint="Check the path.")
    # As text, so that it is the map that decides what is a number.
    try:
        with pc.open_csv(path) as head:
            names = head.schema.names
        convert = pc.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True
        )
        table = pc.read_csv(path, convert_options=convert)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: cannot be read as CSV: {error}") from error
    if not table.num_rows:
        raise DatasetError(f"{path}: has a header and no rows")
    return table


def _check_columns(path: Path, table: pa.Table, layout: CsvMap) -> None:
    for ours, theirs in layout.columns.items():
        for name in [theirs] if isinstance(theirs, str) else theirs:
            if name not in table.column_names:
                near = difflib.get_close_matches(name, table.column_names, n=1)
                guess = f"; did you mean {near[0]!r}?" if near else ""
                raise InputError(
                    f"{path}: has no column {name!r}, which the map wants for {ours}{guess}",
                    hint=f"The CSV's columns are {', '.join(table.column_names)}.",
                )


def _texts(table: pa.Table, layout: CsvMap, name: str) -> list[str | None] | None:
    theirs = layout.columns.get(name)
    if theirs is None:
        constant = layout.constants.get(name)
        return None if constant is None else [str(constant)] * table.num_rows
    meaning = layout.values.get(name, {})
    cells = table[theirs if isinstance(theirs, str) else theirs[0]].to_pylist()
    return [None if cell is None else str(meaning.get(cell, cell)) for cell in cells]


def _numbers(path: Path, table: pa.Table, layout: CsvMap, name: str) -> NDArray[np.float64] | None:
    theirs = layout.columns.get(name)
    unit = layout.units.get(name)
    scale = UNITS[unit][1] if unit is not None else 1.0
    if theirs is None:
        if (constant := layout.constants.get(name)) is None:
            return None
        return np.full(table.num_rows, _number(path, name, constant) * scale)
    meaning: Mapping[str, Any] = layout.values.get(name, {})
    total = np.zeros(table.num_rows)
    for column in [theirs] if isinstance(theirs, str) else theirs:
        cells = table[column].to_pylist()
        number = {each: _number(path, column, meaning.get(each, each)) for each in set(cells)}
        total += np.array([number[each] for each in cells], dtype=np.float64)
    return total * scale


def _number(path: Path, name: str, cell: Any) -> float:
    if cell is None:
        return float("nan")
    try:
        return float(cell)
    except ValueError:
        raise InputError(
            f"{path}: column {name}: must hold numbers, got {cell!r}",
            hint="Say under [values] what a text means, as True = 3.",
        ) from None


def _count_relative(points: Points) -> None:
    """Turn shares of the local experts, and multiples of the mean, into counts."""
    local = np.ceil(points.number("num_experts") / points.number("ep_size"))
    share = points.numbers.pop("active_experts_fraction", None)
    if share is not None:
        points.numbers["num_active_experts"] = np.rint(share * local)
    multiple = points.numbers.pop("max_rows_over_mean", None)
    if multiple is not None:
        points.numbers["max_rows_per_expert"] = np.rint(
            multiple * points.number("num_rows") / local
        )
