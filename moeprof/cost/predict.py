"""What a fitted model predicts of a table's points, as columns beside theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from moeprof.cost.points import points_from_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from moeprof.cost.model import CostModel, Prediction

LATENCY: Final = "predicted_latency_seconds"
ENERGY: Final = "predicted_energy_joules"
POWER: Final = "predicted_average_watts"
ACTIVE: Final = "expected_active_experts"
EXTRAPOLATING: Final = "extrapolating"
EXTRAPOLATING_ENERGY: Final = "extrapolating_energy"
_UNITS: Final = {"seconds": "s", "joules": "J", "watts": "W", "ratio": "1", "experts": "experts"}


def predicted_table(model: CostModel, table: pa.Table) -> pa.Table:
    """Return the table with what the model predicts of each row behind its columns.

    The rows need the workload columns of a dataset (see `points.points_from_table`); all others,
    such as measured latencies, are left as they are and do not matter. Added are

    - `expected_active_experts`, of the row counts or else of the routing pattern;
    - `predicted_latency_seconds`, `predicted_energy_joules` and `predicted_average_watts`, each
      with `_low` and `_high`, the ends of its 90 % interval;
    - what they are made of: `predicted_<part>_seconds`, `predicted_correction_ratio` and
      `predicted_<part>_joules` (see `CostModel.breakdown`);
    - `extrapolating` and `extrapolating_energy`: outside of what was measured.

    Columns of energy and power are null where the model has no power. Columns of these names that
    the table has are replaced.

    Raises:
        DatasetError: a column is missing or a value is impossible; the message has the row.

    """
    points = points_from_table(table)
    seconds = model.seconds(points)
    joules, watts = model.joules(points), model.average_watts(points)
    num = len(points)
    columns: dict[str, pa.Array] = {ACTIVE: pa.array(points.occupancy.num_active)}
    columns |= _interval(LATENCY, seconds, num)
    columns |= _interval(ENERGY, joules, num) | _interval(POWER, watts, num)
    columns |= _prefixed(model.breakdown(points))
    columns[EXTRAPOLATING] = pa.array(seconds.extrapolating)
    columns[EXTRAPOLATING_ENERGY] = (
        pa.nulls(num, pa.bool_()) if joules is None else pa.array(joules.extrapolating)
    )
    kept = table.select([name for name in table.column_names if name not in columns])
    for name, values in columns.items():
        kept = kept.append_column(_field(name, values.type), values)
    return kept


def _interval(name: str, predicted: Prediction | None, num_points: int) -> dict[str, pa.Array]:
    names = (name, f"{name}_low", f"{name}_high")
    if predicted is None:
        return {each: pa.nulls(num_points, pa.float64()) for each in names}
    ends = (predicted.value, predicted.low, predicted.high)
    return {each: pa.array(values) for each, values in zip(names, ends, strict=True)}


def _prefixed(breakdown: Mapping[str, NDArray[np.float64]]) -> dict[str, pa.Array]:
    return {
        f"predicted_{name}": pa.array(np.ascontiguousarray(values))
        for name, values in breakdown.items()
    }


def _field(name: str, kind: pa.DataType) -> pa.Field:
    stem = name.removesuffix("_low").removesuffix("_high")
    unit = _UNITS.get(stem.rpartition("_")[2], "none")
    return pa.field(name, kind, metadata={"unit": unit})
