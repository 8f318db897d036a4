"""Where a fitted model comes from, and what it was found to be worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow.compute as pc

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from moeprof.cost.points import Points
    from moeprof.dataset.run import RunRecord

_VARIES: Final = 0.01  # of the median: clocks and limits that differ by less are one
_NUM_DIGITS: Final = 12  # of a file's SHA-256, enough to tell files apart


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a model was fitted to.

    `sources` are the kinds of rows (measured, simulated, imported); `datasets` say in words where
    they come from; `not_identified` lists what the data could not tell, such as temperature.
    `held_out` are errors on rows that a fit had not seen, as `fit-cost --json` gives them.
    """

    moeprof_version: str
    sources: tuple[str, ...]
    datasets: tuple[str, ...]
    num_rows: int
    seed: int
    not_identified: tuple[str, ...]
    held_out: dict[str, object]


def dataset_words(run: RunRecord, table: pa.Table) -> str:
    """Return a run in words: what it is of, on what, how many rows, by which software.

    `table` has the run's rows, as `read_measurements` returns them.
    """
    devices = ", ".join(sorted(pc.unique(table["device_name"]).to_pylist()))
    words = [f"run {run.run_id}: {run.recipe['name']} on {devices}"]
    pairs = table.group_by(["engine", "engine_version"]).aggregate([]).to_pylist()
    engines = {f"{each['engine']} {each['engine_version'] or ''}".strip() for each in pairs}
    words += sorted(engines - {"None"})
    words.append(f"{table.num_rows} rows")
    words += [f"{name} {version}" for name, version in run.versions.items()]
    if sha256 := run.notes.get("import", {}).get("sha256"):
        words.append(f"sha256 {sha256[:_NUM_DIGITS]}")
    return ", ".join(words)


def not_identified(points: Points, *, has_thermal: bool, has_watts: bool) -> tuple[str, ...]:
    """Return what the rows of a fit cannot tell: temperature, clock, power, power limit.

    `has_thermal` and `has_watts` say whether the fitted model has those terms.
    """
    absent = {
        "temperature": not has_thermal,
        "clock": not (has_thermal and _varies(points.sm_clock_hertz)),
        "power": not has_watts,
        "power limit": not (has_watts and _varies(points.power_limit_watts)),
    }
    return tuple(name for name, is_absent in absent.items() if is_absent)


def _varies(values: NDArray[np.float64]) -> bool:
    known = values[np.isfinite(values)]
    return bool(len(known) and np.ptp(known) > _VARIES * np.median(known))
