"""Tables of transfers between GPUs, from aiconfigurator, in one schema of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moeprof.dataset.columns import NO_UNIT, Column
from moeprof.dataset.importers.dialect import pattern_of
from moeprof.dataset.importers.points import device_kind
from moeprof.dataset.schema import field
from moeprof.errors import DatasetError
from moeprof.units import seconds_from_ms, seconds_from_us

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TRANSFERS_FOLDER: Final = "transfers"
TRANSFERS_VERSION: Final = 1
_VERSION_KEY: Final = "transfers_schema_version"

_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()
TRANSFER_COLUMNS: Final = (
    Column("import_id", _TEXT, NO_UNIT, "Hash of the table it is from", nullable=False),
    Column("source_file", _TEXT, NO_UNIT, "The table within the package", nullable=False),
    Column("device_kind", _TEXT, NO_UNIT, "As in measurements", nullable=False),
    Column("device_name", _TEXT, NO_UNIT, "The device's name as its vendor gives it"),
    Column("engine", _TEXT, NO_UNIT, "The serving engine, or nccl"),
    Column("engine_version", _TEXT, NO_UNIT, "Its version"),
    Column("library", _TEXT, NO_UNIT, "What moves the data: NCCL, deepep, NVLinkTwoSided, ..."),
    Column("mode", _TEXT, NO_UNIT, "The library's mode: deepep_ll, deepep_ht, ..."),
    Column("operation", _TEXT, NO_UNIT, "dispatch, combine, prepare, or a collective's name"),
    Column("dtype", _TEXT, NO_UNIT, "Number format in the source's words; null: not given"),
    Column("routing_pattern", _TEXT, NO_UNIT, "How tokens fall on experts; null: not given"),
    Column("num_ranks", _WHOLE, "ranks", "Ranks of the group"),
    Column("num_nodes", _WHOLE, "nodes", "Nodes that the ranks are on"),
    Column(
        "num_tokens", _WHOLE, "tokens", "Tokens as the source counts them: of each rank, for DeepEP"
    ),
    Column("hidden_size", _WHOLE, "elements", "Hidden size d"),
    Column("num_experts", _WHOLE, "experts", "Routed experts E"),
    Column("top_k", _WHOLE, "experts", "Experts per token k"),
    Column("message_bytes", _WHOLE, "B", "Bytes of a collective's message"),
    Column("num_sms", _WHOLE, "multiprocessors", "Multiprocessors that the transfer occupies"),
    Column("transmit_seconds", _REAL, "s", "Time of moving the data"),
    Column("notify_seconds", _REAL, "s", "Time of agreeing on sizes beforehand"),
    Column("latency_seconds", _REAL, "s", "Time of the operation"),
)
TRANSFERS: Final = pa.schema(
    [field(column) for column in TRANSFER_COLUMNS], metadata={_VERSION_KEY: str(TRANSFERS_VERSION)}
)
# Bytes of an element by NCCL's names; message_size counts elements there.
_NCCL_BYTES: Final = {"half": 2, "bfloat16": 2, "float": 4, "int8": 1, "fp8": 1}


def read_transfers(path: Path, *, import_id: str, source_file: str) -> pa.Table:
    """Return one table of transfers in the schema `TRANSFERS`, rows without a latency left out.

    Raises:
        DatasetError: the file is unreadable, or of a layout that is not known.

    """
    try:
        table = pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: cannot be read as Parquet: {error}") from error
    engine, version = path.parts[-3:-1]
    parts = _parts(table, path)
    tables = []
    for part in parts:
        num = table.num_rows
        names = part.pop("device_name", None) or [None] * num
        kinds = {name: device_kind(name or "unknown") for name in set(names)}
        made = {
            "import_id": [import_id] * num,
            "source_file": [source_file] * num,
            "device_name": names,
            "device_kind": [kinds[name] for name in names],
            "engine": [engine] * num,
            "engine_version": [version] * num,
            **part,
        }
        tables.append(_in_schema(made, num))
    found = pa.concat_tables(tables)
    latency = found["latency_seconds"].to_numpy()
    return found.filter(pa.array(np.isfinite(latency) & (latency > 0)))


def _in_schema(made: dict[str, Any], num: int) -> pa.Table:
    arrays = []
    for column in TRANSFER_COLUMNS:
        values = made.get(column.name)
        if values is None:
            arrays.append(pa.nulls(num, column.type))
        elif isinstance(values, np.ndarray):
            absent = ~np.isfinite(values)
            whole = np.where(absent, 0.0, values) if column.type == _WHOLE else values
            arrays.append(pa.array(whole, mask=absent).cast(column.type))
        else:
            arrays.append(pa.array(values, type=column.type))
    return pa.Table.from_arrays(arrays, schema=TRANSFERS)


def _parts(table: pa.Table, path: Path) -> list[dict[str, Any]]:
    """Return the columns of the schema that each layout has, a part for each operation."""
    name = path.name
    if name == "nccl_perf.parquet":
        return [_nccl(table)]
    if name == "moe_a2a_perf.parquet":
        return [_engine_all_to_all(table)]
    if name == "trtllm_alltoall_perf.parquet":
        return [_trtllm(table)]
    if name in {"wideep_deepep_ll_perf.parquet", "wideep_deepep_normal_perf.parquet"}:
        return [_deepep(table, operation) for operation in ("dispatch", "combine")]
    raise DatasetError(
        f"{path}: not a table of transfers that is known",
        hint="The layouts are nccl, moe_a2a, trtllm_alltoall and wideep_deepep.",
    )


def _nccl(table: pa.Table) -> dict[str, Any]:
    sizes = [_NCCL_BYTES.get(each, np.nan) for each in table["nccl_dtype"].to_pylist()]
    return {
        **_texts(table, device_name="device", library="kernel_source", operation="op_name"),
        **_texts(table, dtype="nccl_dtype"),
        "num_ranks": _reals(table, "num_gpus"),
        "message_bytes": _reals(table, "message_size") * np.array(sizes, dtype=np.float64),
        "latency_seconds": _reals(table, "latency") * seconds_from_ms(1.0),
    }


def _engine_all_to_all(table: pa.Table) -> dict[str, Any]:
    # This layout alone gives its latency in microseconds, the sum of its two parts.
    microsecond = seconds_from_us(1.0)
    found = _texts(table, device_name="device", library="kernel_source", mode="comm_backend")
    found |= _texts(table, operation="phase", dtype="comm_dtype")
    found["dtype"] = [None if each == "default" else each for each in found["dtype"]]
    return {
        **found,
        **_layer(table, tokens="num_tokens", top_k="topk"),
        "num_ranks": _reals(table, "ep_size"),
        "num_nodes": _reals(table, "node_num"),
        "num_sms": _reals(table, "sms"),
        "transmit_seconds": _reals(table, "transmit_us") * microsecond,
        "notify_seconds": _reals(table, "notify_us") * microsecond,
        "latency_seconds": _reals(table, "latency") * microsecond,
    }


def _trtllm(table: pa.Table) -> dict[str, Any]:
    found = _texts(table, device_name="device", library="kernel_source", dtype="moe_dtype")
    operations = table["op_name"].cast(_TEXT).to_pylist()
    return {
        **found,
        **_layer(table, tokens="num_tokens", top_k="topk"),
        "operation": [(each or "").removeprefix("alltoall_") for each in operations],
        "routing_pattern": [pattern_of(each) for each in table["distribution"].to_pylist()],
        "num_ranks": _reals(table, "moe_ep_size"),
        "latency_seconds": _reals(table, "latency") * seconds_from_ms(1.0),
    }


def _deepep(table: pa.Table, operation: str) -> dict[str, Any]:
    microsecond = seconds_from_us(1.0)
    found: dict[str, Any] = {
        **_texts(table, device_name="device", library="kernel_source", mode="op_name"),
        **_layer(table, tokens="num_token", top_k="num_topk"),
        "operation": [operation] * table.num_rows,
        "num_nodes": _reals(table, "node_num"),
    }
    if f"{operation}_avg_t_us" in table.column_names:
        return {**found, "latency_seconds": _reals(table, f"{operation}_avg_t_us") * microsecond}
    transmit = _reals(table, f"{operation}_transmit_us") * microsecond
    notify = _reals(table, f"{operation}_notify_us") * microsecond
    return {
        **found,
        "num_sms": _reals(table, f"{operation}_sms"),
        "transmit_seconds": transmit,
        "notify_seconds": notify,
        "latency_seconds": transmit + notify,
    }


def _layer(table: pa.Table, *, tokens: str, top_k: str) -> dict[str, NDArray[np.float64]]:
    names = {"num_tokens": tokens, "top_k": top_k}
    names |= {"hidden_size": "hidden_size", "num_experts": "num_experts"}
    return {ours: _reals(table, theirs) for ours, theirs in names.items()}


def _texts(table: pa.Table, **names: str) -> dict[str, Any]:
    return {
        ours: table[theirs].cast(_TEXT).to_pylist()
        for ours, theirs in names.items()
        if theirs in table.column_names
    }


def _reals(table: pa.Table, name: str) -> NDArray[np.float64]:
    return np.asarray(table[name].cast(_REAL).to_numpy(), dtype=np.float64)
