"""The writing of a table of transfers beside the measurements of a dataset folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeprof.dataset import files
from moeprof.dataset.folder import check_writable_as_dataset, writing
from moeprof.dataset.importers.transfers import TRANSFERS_FOLDER, read_transfers
from moeprof.dataset.parts import part_path, write_part

if TYPE_CHECKING:
    from pathlib import Path

    from moeprof.dataset.importers.write import Provenance


def write_transfers(folder: Path, path: Path, provenance: Provenance) -> int:
    """Write one table of transfers to `folder`/transfers, and return how many rows it has.

    The same table written again replaces itself. Package version, path, hash and licence are in
    the Parquet file's metadata.

    Raises:
        DatasetError: the table is of no known layout, or the folder cannot be written.

    """
    check_writable_as_dataset(folder)
    table = read_transfers(path, import_id=provenance.run_id, source_file=provenance.file)
    told = {
        "source_file": provenance.file,
        "sha256": provenance.sha256,
        "licence": provenance.licence or "not given",
        **{f"version.{name}": version for name, version in provenance.versions.items()},
    }
    with writing(folder, "no row of this table is in the dataset"):
        files.make_folder(folder / TRANSFERS_FOLDER)
        described = table.replace_schema_metadata({**table.schema.metadata, **told})
        write_part(part_path(folder / TRANSFERS_FOLDER, provenance.run_id, 1), described)
    return len(table)
