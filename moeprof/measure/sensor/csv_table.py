"""Columns of a CSV file as text, and moments and numbers in it, each fault with its line."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from moeprof.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

_NVIDIA_SMI_TIME = "%Y/%m/%d %H:%M:%S.%f"
_SCALES = {"W": 1.0, "mW": 1e-3, "kW": 1e3, "J": 1.0, "mJ": 1e-3, "kJ": 1e3}
# What nvidia-smi writes where a sensor gave nothing.
_NOTHING = ("", "n/a", "[n/a]", "[not supported]", "[unknown error]", "[gpu is lost]", "nan")


@dataclass(frozen=True, slots=True)
class CsvTable:
    """Rows of a file with a header; `names` in lower case, without units in brackets."""

    path: Path
    header: tuple[str, ...]
    names: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]  # each with its line, from 1

    def column(self, *wanted: str) -> int | None:
        """Return the place of the first column that has one of these names."""
        return next((self.names.index(name) for name in wanted if name in self.names), None)


def read_table(path: Path) -> CsvTable:
    """Read a CSV file.

    Raises:
        InputError: the file cannot be read, has no rows, or a row is short.

    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"{path}: cannot be read: {reason}") from error
    reader = csv.reader(text.splitlines(), skipinitialspace=True)
    lines = [
        (reader.line_num, tuple(cell.strip() for cell in row))
        for row in reader
        if any(cell.strip() for cell in row)
    ]
    if not lines:
        raise InputError(f"{path}: is empty, a header and rows were expected")
    header = lines[0][1]
    for line, cells in lines[1:]:
        if len(cells) != len(header):
            raise InputError(
                f"{path}:{line}: {len(cells)} cells, the header has {len(header)}",
                hint="Cells are parted by commas; of a file cut off, remove the last line.",
            )
    if len(lines) == 1:
        raise InputError(f"{path}: has a header and no rows")
    names = tuple(name.lower().split("[")[0].strip() for name in header)
    return CsvTable(path, header, names, tuple(lines[1:]))


def moment(table: CsvTable, line: int, text: str) -> float:
    """Return seconds: plain ones, or since the epoch for a timestamp; without a zone it is UTC's.

    Raises:
        InputError: it is neither.

    """
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        if math.isfinite(seconds):
            return seconds
    for parse in (_nvidia_smi, datetime.fromisoformat):
        try:
            at = parse(text)
        except ValueError:
            continue
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    raise InputError(
        f"{table.path}:{line}: {text!r} is no moment, expected seconds such as 12.5, "
        "2023-07-14T10:12:46.483 or 2023/07/14 10:12:46.483"
    )


def number(table: CsvTable, line: int, column: int, text: str) -> float | None:
    """Return a number in SI units; None where the sensor gave nothing.

    The unit stands behind the number, or in brackets in the header, or nowhere.

    Raises:
        InputError: it is no number, or in a unit that is not known.

    """
    if text.lower() in _NOTHING:
        return None
    words, name = text.split(maxsplit=1), table.header[column]
    try:
        value = float(words[0])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{table.path}:{line}: {name} must be a number, got {text!r}")
    unit = words[1] if len(words) > 1 else name.partition("[")[2].rstrip("] ")
    if unit and unit not in _SCALES:
        raise InputError(
            f"{table.path}:{line}: {name} must be in {', '.join(_SCALES)}, got {unit!r}",
        )
    return value * _SCALES.get(unit, 1.0)


def _nvidia_smi(text: str) -> datetime:
    return datetime.strptime(text, _NVIDIA_SMI_TIME).replace(tzinfo=UTC)
