"""Every step of every run as a Parquet table whose fields name their units."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moeprof.dataset.columns import NO_UNIT, SHARE, Column
from moeprof.dataset.schema import field

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from moeprof.evaluation.runs import PolicyRun, SceneRuns

_COLUMNS: Final = (
    Column("scene", pa.string(), NO_UNIT, "The scene's name", nullable=False),
    Column("policy", pa.string(), NO_UNIT, "The policy's name", nullable=False),
    Column("setting", pa.string(), NO_UNIT, "Its knobs, as a JSON object", nullable=False),
    Column("claim", pa.string(), NO_UNIT, "exact (top-k's experts) or re-routed", nullable=False),
    Column("hardware", pa.string(), NO_UNIT, "measured or emulated", nullable=False),
    Column("traffic", pa.string(), NO_UNIT, "recorded, live or generated", nullable=False),
    Column("seed", pa.int64(), NO_UNIT, "Place of the seed in the scene, from 0", nullable=False),
    Column("step", pa.int64(), NO_UNIT, "Decode step after the settling ones", nullable=False),
    Column("step_seconds", pa.float64(), "s", "Latency of the MoE layers", nullable=False),
    Column("step_joules", pa.float64(), "J", "Energy of all GPUs", nullable=False),
    Column(
        "active_experts",
        pa.float64(),
        "experts",
        "Experts with a row, ranks added, mean over layers",
        nullable=False,
    ),
    Column(
        "gate_mass_fraction", pa.float64(), SHARE, "Retained against plain top-k", nullable=False
    ),
    Column(
        "changed_fraction", pa.float64(), SHARE, "Selections unlike plain top-k's", nullable=False
    ),
    Column("num_dropped_rows", pa.float64(), "rows", "Fewer than plain top-k has", nullable=False),
    Column(
        "loss_difference_nats",
        pa.float64(),
        "nat",
        "Cross-entropy less plain top-k's, mean over the batch; null: no model ran",
    ),
)
STEPS: Final = pa.schema([field(column) for column in _COLUMNS])


def write_steps(scenes: Iterable[SceneRuns], sink: pa.NativeFile) -> None:
    """Write a row per scene, setting, seed and step."""
    with pq.ParquetWriter(sink, STEPS, compression="zstd") as writer:
        for runs in scenes:
            writer.write_table(pa.concat_tables(_table(runs, run) for run in runs.runs))


def _table(runs: SceneRuns, run: PolicyRun) -> pa.Table:
    num_seeds, num_steps = run.step_seconds.shape
    size = num_seeds * num_steps
    seed, step = np.divmod(np.arange(size), num_steps)
    losses = run.loss_difference_nats

    def text(value: str) -> pa.Array:
        return pa.repeat(value, size)

    def flat(values: NDArray[np.float64]) -> pa.Array:
        return pa.array(values.ravel())

    columns = {
        "scene": text(runs.scene),
        "policy": text(run.policy),
        "setting": text(json.dumps(dict(run.setting))),
        "claim": text(run.claim),
        "hardware": text(runs.hardware),
        "traffic": text(runs.traffic),
        "seed": pa.array(seed),
        "step": pa.array(step),
        "step_seconds": flat(run.step_seconds),
        "step_joules": flat(run.step_joules),
        "active_experts": flat(run.active_experts),
        "gate_mass_fraction": flat(run.gate_mass_fraction),
        "changed_fraction": flat(run.changed_fraction),
        "num_dropped_rows": flat(run.num_dropped_rows),
        "loss_difference_nats": (
            pa.nulls(size, pa.float64()) if losses is None else flat(losses.mean(axis=2))
        ),
    }
    return pa.Table.from_arrays([columns[name] for name in STEPS.names], schema=STEPS)
