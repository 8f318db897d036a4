"""Measurements written as a `moe_perf` table, which NVIDIA's aiconfigurator reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import moeprof
from moeprof.dataset.files import replace_file
from moeprof.dataset.folder import writing
from moeprof.dataset.importers.dialect import ENGINES, NUMBER_FORMATS, distribution_of
from moeprof.dataset.read import read_measurements
from moeprof.errors import DatasetError
from moeprof.units import seconds_from_ms

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_WHOLE: Final = {
    "num_tokens": "batch_size",
    "hidden_size": "hidden_size",
    "inter_size": "expert_size",
    "topk": "top_k",
    "num_experts": "num_experts",
    "moe_tp_size": "tp_size",
    "moe_ep_size": "ep_size",
}
_MOE_DTYPES: Final = {formats: name for name, formats in NUMBER_FORMATS.items()}
# What a moe_perf table tells otherwise, or what only says where a row came from.
_EXPRESSED: Final = frozenset(
    {
        *_WHOLE.values(),
        *("engine", "engine_version", "kernel", "device_name", "device_kind", "weight_dtype"),
        *("activation_dtype", "routing_pattern", "latency_seconds", "average_watts"),
        *("power_limit_watts", "energy_joules", "energy_source", "energy_absent_reason"),
        *("point_id", "run_id", "order_index", "role", "status", "status_detail", "source"),
        *("recorded_at", "ep_rank", "model", "placement", "routing_seed", "num_local_experts"),
        *("weight_bytes", "activation_bytes", "flops", "rows_reconstructed"),
    }
)


@dataclass(frozen=True, slots=True)
class Exported:
    """What went out: rows written, steps left out by reason, columns that have no place there."""

    file: str
    num_rows: int
    left_out: dict[str, int]
    lost_columns: tuple[str, ...]


def export(folder: Path, out: Path) -> Exported:
    """Write the measured points of a dataset as one `moe_perf` Parquet file.

    One row for each step, of its slowest rank. Power is the average over the energy window.

    Raises:
        DatasetError: no dataset, no row that can be written, or `out` cannot be written.

    """
    table = read_measurements(folder)
    written, left_out = moe_perf(table)
    if not written.num_rows:
        reasons = "; ".join(f"{reason}: {count}" for reason, count in left_out.items())
        raise DatasetError(
            f"{folder}: no row can be written as moe_perf ({reasons or 'it is empty'})",
            hint="moeprof report shows what the dataset holds.",
        )
    sink = pa.BufferOutputStream()
    pq.write_table(written, sink)
    with writing(out.parent, "nothing was written"):
        replace_file(out, sink.getvalue().to_pybytes())
    lost = tuple(
        name
        for name in table.column_names
        if name not in _EXPRESSED and table[name].null_count < table.num_rows
    )
    return Exported(str(out), written.num_rows, left_out, lost)


def moe_perf(table: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """Return measurements as a moe_perf table, and how many steps are left out for what reason."""
    steps: dict[tuple[str, int], list[int]] = {}
    for index, key in enumerate(
        zip(table["run_id"].to_pylist(), table["order_index"].to_pylist(), strict=True)
    ):
        steps.setdefault(key, []).append(index)
    names = ("role", "weight_dtype", "activation_dtype", "routing_pattern", "latency_seconds")
    told = {name: table[name].to_pylist() for name in names}
    left_out: dict[str, int] = {}
    kept = []
    for ranks in steps.values():
        reason = _reason(told, ranks)
        if reason is None:
            kept.append(max(ranks, key=told["latency_seconds"].__getitem__))
        else:
            left_out[reason] = left_out.get(reason, 0) + 1
    return _in_dialect(table.take(pa.array(kept, pa.int64()))), left_out


def _reason(told: dict[str, list[Any]], ranks: Iterable[int]) -> str | None:
    for index in ranks:
        if told["role"][index] != "point":
            return "sentinels"
        if told["latency_seconds"][index] is None:
            return "without a latency"
        weight, activation = told["weight_dtype"][index], told["activation_dtype"][index]
        if (weight, activation) not in _MOE_DTYPES:
            return f"number format {weight} with {activation}, which it has no word for"
        pattern = told["routing_pattern"][index]
        if distribution_of(pattern) is None:
            return f"routing pattern {pattern}, which it has no word for"
    return None


def _in_dialect(table: pa.Table) -> pa.Table:
    pairs = zip(
        table["weight_dtype"].to_pylist(), table["activation_dtype"].to_pylist(), strict=True
    )
    engines = table["engine"].to_pylist()
    columns: dict[str, Any] = {
        "framework": [ENGINES.get(each, each) if each else "moeprof" for each in engines],
        "version": pc.coalesce(table["engine_version"], pa.scalar(moeprof.__version__)),
        "device": table["device_name"],
        "op_name": pa.repeat(pa.scalar("moe"), table.num_rows),
        "kernel_source": table["kernel"],
        "moe_dtype": [_MOE_DTYPES[pair] for pair in pairs],
        **{theirs: table[ours] for theirs, ours in _WHOLE.items()},
        "distribution": [distribution_of(each) for each in table["routing_pattern"].to_pylist()],
        "latency": table["latency_seconds"].to_numpy() / seconds_from_ms(1.0),
    }
    if table["average_watts"].null_count < table.num_rows:
        columns["power"] = table["average_watts"]
        columns["power_limit"] = table["power_limit_watts"]
    return pa.table(columns)
