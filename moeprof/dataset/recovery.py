"""What of a run is in its Parquet parts already, found after a kill or an interrupted flush."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from moeprof.dataset import files
from moeprof.dataset.parts import (
    MEASUREMENTS_FOLDER,
    SAMPLES_FOLDER,
    next_number,
    part_paths,
    read_part,
)
from moeprof.dataset.schema import KEY_COLUMNS, MEASUREMENTS, SAMPLES, Key, to_keys

if TYPE_CHECKING:
    from pathlib import Path

_SAMPLE_KEYS: Final = pa.schema([SAMPLES.field("sample_index")])
_KEYS: Final = pa.schema([MEASUREMENTS.field(name) for name in KEY_COLUMNS])


@dataclass(frozen=True, slots=True)
class Written:
    """The keys in a run's parts, and the number of the part to be written next."""

    keys: frozenset[Key]
    next_number: int


def recover(folder: Path, run_id: str) -> Written:
    """Return what a run's parts hold, and remove samples whose measurements are in no part.

    Samples are written before their measurements, so these samples are in the journal still, or
    the user has moved the measurements away to have them measured again.

    Raises:
        DatasetError: a part of the run is damaged or of a newer schema.
        OSError: samples cannot be removed.

    """
    measurements = folder / MEASUREMENTS_FOLDER
    keys: set[Key] = set()
    for path in part_paths(measurements, run_id):
        keys.update(to_keys(read_part(path, _KEYS).to_pydict()))
    for path in part_paths(folder / SAMPLES_FOLDER, run_id):
        if (measurements / path.name).exists():
            read_part(path, _SAMPLE_KEYS)
        else:
            files.remove(path)
    return Written(frozenset(keys), next_number(measurements, run_id))
