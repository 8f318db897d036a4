"""A Parquet file that grows row group by row group and is seen by readers whole or not at all."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from moeprof.dataset import files
from moeprof.errors import TraceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

_DICTIONARY = ["layer", "token_id", "is_dummy", "experts.list.element"]
_DELTA = ["request", "position", "step"]


@contextmanager
def published(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Give a writer whose file appears at `path` when the block ends, and not if it raises.

    Floats are stored as they are: splitting their bytes makes logits 8 % smaller, and DuckDB 2.0
    then cannot read them.

    Raises TraceError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    delta = {name: "DELTA_BINARY_PACKED" for name in _DELTA if name in schema.names}
    try:
        try:
            with temporary.open("wb") as sink:
                with pq.ParquetWriter(
                    sink,
                    schema,
                    compression="zstd",
                    use_dictionary=_DICTIONARY,
                    column_encoding=delta or None,
                    write_page_checksum=True,
                ) as writer:
                    yield writer
                sink.flush()
                os.fsync(sink.fileno())
            temporary.replace(path)
        except BaseException:
            files.remove(temporary)
            raise
        files.sync_folder(path.parent)
    except OSError as error:
        raise TraceError(
            f"{path}: the trace cannot be written: {error.strerror or error}",
            hint="Check that the folder exists, may be written, and has space left.",
        ) from error
