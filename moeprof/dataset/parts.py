"""The Parquet parts of a dataset: their names, how one is written whole, how one is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from moeprof.dataset.files import replace_file
from moeprof.dataset.schema import VERSION_KEY, check_version, is_in_version
from moeprof.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

MEASUREMENTS_FOLDER = "measurements"
SAMPLES_FOLDER = "samples"
JOURNAL_FOLDER = "journal"


def part_path(folder: Path, run_id: str, number: int) -> Path:
    """Return where part `number`, from 1, of a run is in `folder`."""
    return folder / f"{run_id}-{number:05d}.parquet"


def part_paths(folder: Path, run_id: str | None = None) -> list[Path]:
    """Return the parts in `folder`, of one run or of all, sorted by name."""
    return sorted(folder.glob("*.parquet" if run_id is None else f"{run_id}-*.parquet"))


def next_number(folder: Path, run_id: str) -> int:
    """Return the number after the highest of a run's parts in `folder`."""
    numbers = [path.stem.rpartition("-")[2] for path in part_paths(folder, run_id)]
    return 1 + max((int(number) for number in numbers if number.isdecimal()), default=0)


def write_part(path: Path, table: pa.Table) -> None:
    """Write a table as one Parquet file, seen by readers whole or not at all. Raises OSError."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    replace_file(path, sink.getvalue().to_pybytes())


def read_part(path: Path, schema: pa.Schema) -> pa.Table:
    """Read from one part the columns of `schema`; those younger than the part are null.

    Raises:
        DatasetError: the file is damaged, lacks a column, or is of a newer schema.

    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            found = file.schema_arrow
            version = check_version((found.metadata or {}).get(VERSION_KEY), path)
            names = [name for name in schema.names if is_in_version(name, version)]
            for field in (schema.field(name) for name in names):
                if field.name not in found.names or not found.field(field.name).equals(field):
                    raise _damaged(path, f"must have a column {field.name} of {field.type}")
            # The file gives the columns in its own order, with metadata of Parquet's own.
            table = file.read(columns=names)
        columns = [
            table[field.name] if field.name in names else pa.nulls(table.num_rows, field.type)
            for field in schema
        ]
        return pa.Table.from_arrays(columns, schema=schema)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, why: str) -> DatasetError:
    twin = SAMPLES_FOLDER if path.parent.name == MEASUREMENTS_FOLDER else MEASUREMENTS_FOLDER
    return DatasetError(
        f"{path}: cannot be read as a part of a dataset: {why}",
        hint=f"Move it and {twin}/{path.name} out of the folder; the same sweep command then "
        "measures their points again and keeps all others.",
    )
