"""The writing of an imported table into a dataset folder, once, with where it came from."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import moeprof
from moeprof.dataset import files, lock
from moeprof.dataset.folder import FOLDERS, check_writable_as_dataset, writing
from moeprof.dataset.importers.points import device_kind, to_table
from moeprof.dataset.parts import MEASUREMENTS_FOLDER, SAMPLES_FOLDER, part_path, write_part
from moeprof.dataset.run import RunRecord, read_run, run_path, to_json
from moeprof.dataset.schema import SAMPLES
from moeprof.device.protocol import DeviceIdentity
from moeprof.record import Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from moeprof.dataset.importers.points import Points

_RUN_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where imported rows come from.

    `name` is the source in short, `file` the path within the package or as the user gave it,
    `sha256` of its content, `versions` of the package that it is from; `options` is what else
    decides what the rows become.
    """

    name: str
    file: str
    sha256: str
    licence: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """The run that these rows are: the same source, file and options are the same run."""
        parts = repr((self.name, self.file, self.sha256, sorted(self.options.items())))
        return hashlib.sha256(parts.encode()).hexdigest()[:_RUN_DIGITS]


@dataclass(frozen=True, slots=True)
class Imported:
    """What came in with one table; refusals by reason, the others by how often each occurs."""

    run_id: str
    file: str
    was_there: bool
    num_rows: int
    num_refused: int
    num_reconstructed: int
    num_with_energy: int
    refusals: dict[str, int]
    device_names: dict[str, int]
    kernels: dict[str, int]
    weight_dtypes: dict[str, int]
    routing_patterns: dict[str, int]


def sha256_of(path: Path) -> str:
    """Return the hash of a file's content. Raises OSError."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def write_points(
    folder: Path, points: Points, provenance: Provenance, *, now: datetime | None = None
) -> Imported:
    """Write points as one run of a dataset; a run that is there already is left as it is.

    A run that another version of moeprof imported is written anew in its place.

    Raises:
        DatasetError: the folder is a file, holds something else, or cannot be written; another
            process writes the same run.

    """
    run_id = provenance.run_id
    recorded_at = now or datetime.now(UTC)
    check_writable_as_dataset(folder)
    part = part_path(folder / MEASUREMENTS_FOLDER, run_id, 1)
    with writing(folder, "no row of this table is in the dataset"):
        for name in FOLDERS:
            files.make_folder(folder / name)
        held = lock.acquire(lock.lock_path(folder, run_id))
        try:
            run = _record(points, provenance, recorded_at)
            path = run_path(folder, run_id)
            was_there = part.exists() and path.exists() and _same(read_run(path), run)
            if not was_there:
                files.replace_file(path, to_json(run))
                samples = part_path(folder / SAMPLES_FOLDER, run_id, 1)
                write_part(samples, SAMPLES.empty_table())
                write_part(part, to_table(points, run_id=run_id, recorded_at=recorded_at))
        finally:
            files.close(held)
    return summary(points, run_id=run_id, file=provenance.file, was_there=was_there)


def summary(points: Points, *, run_id: str, file: str, was_there: bool) -> Imported:
    """Return what came in with points that are judged and completed."""
    energy = points.text("energy_source")
    return Imported(
        run_id=run_id,
        file=file,
        was_there=was_there,
        num_rows=points.num_points,
        num_refused=sum(status != Status.OK for status in points.status),
        num_reconstructed=int(points.flags["rows_reconstructed"].sum()),
        num_with_energy=sum(each is not None for each in energy),
        refusals=_counted([each for each in points.detail if each is not None]),
        device_names=_counted(points.text("device_name")),
        kernels=_counted(points.text("kernel")),
        weight_dtypes=_counted(points.text("weight_dtype")),
        routing_patterns=_counted(points.text("routing_pattern")),
    )


def _record(points: Points, provenance: Provenance, recorded_at: datetime) -> RunRecord:
    names = sorted({name or "unknown" for name in points.text("device_name")})
    device = " and ".join(names) or "unknown"
    return RunRecord(
        run_id=provenance.run_id,
        recipe_text="",
        recipe={"name": f"{provenance.name} {provenance.file}", "imported_from": provenance.name},
        seed=0,
        versions={"moeprof": moeprof.__version__, **provenance.versions},
        device=DeviceIdentity(device_kind(device), device, ""),
        notes={
            "import": {
                "file": provenance.file,
                "sha256": provenance.sha256,
                "licence": provenance.licence,
                "num_rows": points.num_points,
                "imported_at": recorded_at.isoformat(),
                **provenance.options,
            }
        },
    )


def _same(found: RunRecord, run: RunRecord) -> bool:
    return found.versions == run.versions


def _counted(values: Sequence[str | None]) -> dict[str, int]:
    counts = Counter("unknown" if each is None else each for each in values)
    return dict(counts.most_common())
