"""The tables inside NVIDIA's `aiconfigurator-core` package, found without importing any of it."""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq

from moeprof.errors import DatasetError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PACKAGE: Final = "aiconfigurator_core"
DISTRIBUTION: Final = "aiconfigurator-core"
LICENCE: Final = "Apache-2.0"
MOE_TABLE: Final = "moe_perf.parquet"


@dataclass(frozen=True, slots=True)
class TableFile:
    """One MoE table: where it is, and what `--system`, `--engine` and `--version` call it."""

    system: str
    engine: str
    version: str
    path: Path
    num_rows: int
    has_power: bool


def package_folder() -> Path:
    """Return the folder of the installed package.

    Raises:
        InputError: the package is not installed.

    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"the package {DISTRIBUTION} is not installed",
            hint="Run pip install 'moeprof[aic]', or give one table with --file X.parquet.",
        )
    return Path(next(iter(spec.submodule_search_locations)))


def package_version() -> str:
    """Return the version of the installed package, or `unknown`."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def moe_tables(folder: Path) -> tuple[TableFile, ...]:
    """Return the MoE tables below the package's folder, by system, engine and version.

    Raises:
        DatasetError: a table is damaged.

    """
    found = sorted((folder / "systems" / "data").glob(f"*/moe/*/*/{MOE_TABLE}"))
    return tuple(_described(path) for path in found)


def choose(
    tables: Sequence[TableFile], *, system: str, engine: str | None, version: str | None
) -> tuple[TableFile, ...]:
    """Return the tables of a system, of one engine and version where they are named.

    Raises:
        InputError: there is none of that name; the message has the nearest ones.

    """
    left = tuple(tables)
    for noun, wanted in (("system", system), ("engine", engine), ("version", version)):
        if wanted is None:
            continue
        named = tuple(table for table in left if getattr(table, noun) == wanted)
        if not named:
            raise _unknown(noun, wanted, sorted({getattr(table, noun) for table in left}))
        left = named
    return left


def transfer_files(folder: Path, system: str, engines: Iterable[str]) -> tuple[Path, ...]:
    """Return the tables of transfers between GPUs of a system: those of NCCL and of the engines."""
    comm = folder / "systems" / "data" / system / "comm"
    wanted = {"nccl", *engines}
    return tuple(
        path
        for path in sorted(comm.glob("*/*/*.parquet"))
        if path.parts[-3] in wanted and path.name in TRANSFER_TABLES
    )


TRANSFER_TABLES: Final = frozenset(
    {
        "moe_a2a_perf.parquet",
        "nccl_perf.parquet",
        "trtllm_alltoall_perf.parquet",
        "wideep_deepep_ll_perf.parquet",
        "wideep_deepep_normal_perf.parquet",
    }
)


def _described(path: Path) -> TableFile:
    try:
        footer = pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(
            f"{path}: cannot be read as Parquet: {error}", hint="Install the package anew."
        ) from error
    system, _, engine, version = path.parts[-5:-1]
    return TableFile(system, engine, version, path, footer.num_rows, "power" in footer.schema.names)


def _unknown(noun: str, wanted: str, known: Sequence[str]) -> InputError:
    nearest = difflib.get_close_matches(wanted.replace("-", "_"), known, n=3, cutoff=0.5)
    guess = f"; did you mean {' or '.join(nearest)}?" if nearest else ""
    return InputError(
        f"{DISTRIBUTION}: no MoE table has the {noun} {wanted!r}{guess}",
        hint=f"There is {', '.join(known)}. See moeprof import aiconfigurator --list.",
    )
