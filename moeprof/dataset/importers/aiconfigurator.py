"""MoE tables of NVIDIA's aiconfigurator turned into points of moeprof's schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moeprof.dataset.importers.dialect import NUMBER_FORMATS, pattern_of
from moeprof.dataset.importers.gates import behind_gates
from moeprof.dataset.importers.points import Points, complete, judge
from moeprof.dataset.importers.shapes import (
    Shape,
    kernels_with_gate,
    models_by_shape,
    shapes_without_gate,
)
from moeprof.errors import DatasetError
from moeprof.record import Status
from moeprof.units import seconds_from_ms

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_WHOLE: Final = {
    "hidden_size": "hidden_size",
    "expert_size": "inter_size",
    "num_experts": "num_experts",
    "top_k": "topk",
    "batch_size": "num_tokens",
    "ep_size": "moe_ep_size",
    "tp_size": "moe_tp_size",
}
_TEXTS: Final = ("framework", "version", "device", "kernel_source", "moe_dtype", "distribution")
_GATED, _WITHOUT_GATE = 3, 2


def read_points(path: Path) -> Points:
    """Return the rows of one `moe_perf.parquet` as points, in the table's order.

    Latency is the table's, in ms there; energy is average power times latency. Row counts are the
    expectations of the distribution that the collector drew from, and of what the engine's gate
    made of it. What the tables do not have, temperature and clocks among it, is null. A row that
    cannot be used has a status and a reason.

    Raises:
        DatasetError: the file is unreadable, or no such table.

    """
    table = _read(path)
    text = {name: table[name].cast(pa.string()).to_pylist() for name in _TEXTS}
    points = Points(table.num_rows)
    points.numbers |= {ours: _numbers(table, theirs) for ours, theirs in _WHOLE.items()}
    points.numbers["latency_seconds"] = _numbers(table, "latency") * seconds_from_ms(1.0)
    for ours, theirs in (("average_watts", "power"), ("power_limit_watts", "power_limit")):
        if theirs in table.column_names:
            points.numbers[ours] = _numbers(table, theirs)
    formats = [NUMBER_FORMATS.get(each, (None, None)) for each in text["moe_dtype"]]
    points.texts |= {
        "device_name": [each or "unknown" for each in text["device"]],
        "kernel": [each or "unknown" for each in text["kernel_source"]],
        "engine": [None if each is None else each.lower() for each in text["framework"]],
        "engine_version": text["version"],
        "weight_dtype": [weight for weight, _ in formats],
        "activation_dtype": [activation for _, activation in formats],
        "routing_pattern": [
            pattern_of(each, None if engine is None else engine.lower(), version)
            for each, engine, version in zip(
                text["distribution"], text["framework"], text["version"], strict=True
            )
        ],
        "placement": ["contiguous"] * table.num_rows,
    }
    _refuse_unknown_words(points, text)
    judge(points)
    _tell_from_shape(points)
    complete(points)
    return points


def _read(path: Path) -> pa.Table:
    if not path.is_file():
        raise DatasetError(f"{path}: there is no such file", hint="Check the path.")
    try:
        table = pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: cannot be read as Parquet: {error}") from error
    needed = (*_TEXTS, *_WHOLE.values(), "latency")
    if missing := [name for name in needed if name not in table.column_names]:
        raise DatasetError(
            f"{path}: must have the columns of a moe_perf table, has no {', '.join(missing)}",
            hint=f"It has {', '.join(table.column_names)}; moeprof import csv reads other tables.",
        )
    return table


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    try:
        values = table[name].cast(pa.float64()).to_numpy()
    except pa.ArrowException as error:
        raise DatasetError(f"column {name}: must hold numbers: {error}") from error
    return np.asarray(values, dtype=np.float64)


def _refuse_unknown_words(points: Points, text: dict[str, list[str | None]]) -> None:
    unknown = {
        "moe_dtype": set(text["moe_dtype"]) - set(NUMBER_FORMATS),
        "distribution": {each for each in set(text["distribution"]) if pattern_of(each) is None},
    }
    for name, words in unknown.items():
        for word in sorted(words, key=str):
            faulty = np.array([each == word for each in text[name]], dtype=bool)
            points.refuse(faulty, f"{name} {word!r} is not known", Status.UNSUPPORTED)


def _tell_from_shape(points: Points) -> None:
    models, without_gate = models_by_shape(), shapes_without_gate()
    sizes = ("hidden_size", "expert_size", "num_experts", "top_k")
    columns = [np.nan_to_num(points.number(name)).astype(np.int64).tolist() for name in sizes]
    shapes = [Shape(*sizes) for sizes in zip(*columns, strict=True)]
    points.texts["model"] = [models.get(shape) for shape in shapes]
    points.texts["routing_pattern"] = behind_gates(
        points.text("routing_pattern"),
        points.text("engine"),
        points.text("engine_version"),
        points.text("kernel"),
        shapes,
    )
    gated = kernels_with_gate()
    points.numbers["num_projections"] = np.array(
        [
            _WITHOUT_GATE if shape in without_gate and kernel not in gated else _GATED
            for shape, kernel in zip(shapes, points.text("kernel"), strict=True)
        ],
        dtype=np.float64,
    )
