from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cost.tables import row, table

from moeprof.cost.layer_points import LayerRequest, points_of_layer
from moeprof.cost.points import points_from_table
from moeprof.cost.points_file import read_points, write_points
from moeprof.cost.predict import predicted_table
from moeprof.errors import DatasetError, UsageError, WorkloadError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from moeprof.cost.model import CostModel


def test_predictions_stand_beside_the_rows_in_their_order(
    model: CostModel, measured_table: pa.Table
) -> None:
    found = predicted_table(model, measured_table)
    seconds = model.seconds(points_from_table(measured_table))

    assert found.select(measured_table.column_names).equals(measured_table)
    assert found["predicted_latency_seconds"].to_pylist() == seconds.value.tolist()
    assert found["predicted_latency_seconds_low"].to_pylist() == seconds.low.tolist()
    assert found["extrapolating"].to_pylist() == seconds.extrapolating.tolist()
    assert found["predicted_energy_joules"].null_count == 0


def test_every_added_column_says_its_unit(model: CostModel, measured_table: pa.Table) -> None:
    found = predicted_table(model, measured_table)
    units = {name: found.schema.field(name).metadata[b"unit"] for name in added(found)}

    assert units["predicted_latency_seconds_high"] == b"s"
    assert units["predicted_weights_seconds"] == b"s"
    assert units["predicted_rest_joules"] == b"J"
    assert units["predicted_average_watts_low"] == b"W"
    assert units["predicted_correction_ratio"] == b"1"
    assert units["expected_active_experts"] == b"experts"
    assert units["extrapolating"] == b"none"


def added(found: pa.Table) -> list[str]:
    return found.column_names[found.column_names.index("expected_active_experts") :]


def test_measured_costs_do_not_matter_and_may_be_absent(
    model: CostModel, measured_table: pa.Table
) -> None:
    without = measured_table.drop_columns(["latency_seconds", "average_watts", "energy_joules"])
    found = predicted_table(model, measured_table)

    assert predicted_table(model, without).equals(
        found.select([*without.column_names, *added(found)])
    )


def test_energy_and_power_are_null_where_the_model_has_no_power(
    model: CostModel, measured_table: pa.Table
) -> None:
    found = predicted_table(without_power(model), measured_table)

    assert found["predicted_latency_seconds"].null_count == 0
    for name in ("predicted_energy_joules_low", "predicted_average_watts", "extrapolating_energy"):
        assert found[name].null_count == found.num_rows


def without_power(model: CostModel) -> CostModel:
    from dataclasses import replace  # noqa: PLC0415 - of this one helper

    return replace(model, watts=None)


def test_predicting_again_replaces_the_columns(model: CostModel, measured_table: pa.Table) -> None:
    once = predicted_table(model, measured_table)

    assert predicted_table(model, once).equals(once)


def test_the_parts_of_a_step_join_to_its_time(model: CostModel, measured_table: pa.Table) -> None:
    found = predicted_table(model, measured_table)
    launch, *others = (
        found[f"predicted_{name}_seconds"].to_numpy()
        for name in ("launch", "chain", "weights", "compute")
    )
    joined = launch + np.sqrt(sum(each**2 for each in others))
    ratio = found["predicted_correction_ratio"].to_numpy()

    np.testing.assert_allclose(
        joined * ratio, found["predicted_latency_seconds"].to_numpy(), rtol=2.0**-22
    )


def test_points_come_back_from_parquet_and_csv_as_they_were(
    model: CostModel, tmp_path: Path
) -> None:
    rows = [
        row(rows_per_expert=[3, 0, 1] + [0] * 125, batch_size=1, engine_version="0.24"),
        row(rows_per_expert=None),
    ]
    asked = predicted_table(model, table(rows))
    for name in ("points.parquet", "points.CSV"):
        write_points(asked, tmp_path / name)
        back = read_points(tmp_path / name)

        assert back["rows_per_expert"].to_pylist() == asked["rows_per_expert"].to_pylist()
        assert back["engine_version"].to_pylist() == ["0.24", "0.24.0"]
        assert predicted_table(model, back)["predicted_latency_seconds"].equals(
            asked["predicted_latency_seconds"]
        )


def written(text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "points.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def parquet_of_text(folder: Path) -> Path:
    (folder / "points.parquet").write_text("no", encoding="utf-8")
    return folder / "points.parquet"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda folder: folder / "absent.csv", "cannot be read"),
        (lambda folder: folder / "points.xlsx", r"must end in \.parquet or \.csv, got '\.xlsx'"),
        (lambda folder: folder, "is no dataset|no dataset"),
        (parquet_of_text, "is not parquet"),
        (written(""), "is not csv"),
        (written("batch_size\n"), "at least one row"),
        (written("batch_size,batch_size\n1,2\n"), "column batch_size must stand there once"),
        (written("rows_per_expert\n3 0 1\n3;0\n"), "row 1: rows_per_expert must be counts between"),
        (written("batch_size,batch\n1,2,3\n"), "is not csv"),
    ],
)
def test_a_file_of_no_points_is_one_clear_error(
    tmp_path: Path, made: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        read_points(made(tmp_path))


def test_a_column_that_is_missing_is_named(model: CostModel, measured_table: pa.Table) -> None:
    with pytest.raises(DatasetError, match="column top_k: is missing"):
        predicted_table(model, measured_table.drop_columns(["top_k"]))


def test_predictions_that_cannot_be_written_leave_nothing(
    model: CostModel, measured_table: pa.Table, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="cannot be written"):
        write_points(predicted_table(model, measured_table), tmp_path / "absent" / "out.parquet")

    assert list(tmp_path.iterdir()) == []


def test_a_parquet_file_below_a_folder_with_an_equals_sign_gets_no_column_from_it(
    measured_table: pa.Table, tmp_path: Path
) -> None:
    (tmp_path / "top_k=1").mkdir()
    path = tmp_path / "top_k=1" / "points.parquet"
    pq.write_table(measured_table, path)

    assert read_points(path).equals(measured_table)


def test_a_layer_becomes_a_point_for_each_batch_size(model: CostModel) -> None:
    found = points_of_layer(model, LayerRequest("mixtral-8x7b", "1..4,64", "uniform", celsius=70))

    points = points_from_table(found.table)
    assert points.batch_size.tolist() == [1, 2, 3, 4, 64]
    assert points.kernel.used() == ("triton",)
    assert points.engine.used() == ("vllm 0.24.0",)
    assert points.gpu.used() == ("h200-sxm",)
    assert points.hidden_size.tolist() == [4096] * 5
    assert points.die_celsius.tolist() == [70.0] * 5
    assert not found.notes
    assert not np.isnan(predicted_table(model, found.table)["predicted_latency_seconds"]).any()


def test_what_was_not_asked_for_is_the_published_format_and_a_note_says_if_it_is_not(
    model: CostModel,
) -> None:
    found = points_of_layer(model, LayerRequest("deepseek-v3", "8", "uniform"))

    assert found.table["weight_dtype"].to_pylist() == ["bf16"]
    assert "deepseek-v3 is published in fp8" in found.notes[0]


@pytest.mark.parametrize(
    ("changes", "error", "message", "hint"),
    [
        ({"layer": "mixtral"}, WorkloadError, "mixtral", "mixtral-8x7b"),
        ({"tokens": "0..4"}, UsageError, "--tokens must be at least 1", "--tokens"),
        ({"tokens": "a"}, UsageError, "--tokens must be a number", "--tokens"),
        ({"tokens": ","}, UsageError, "--tokens must name at least one", "--tokens"),
        ({"pattern": "uniformly"}, WorkloadError, "uniformly", "uniform"),
        ({"kernel": "tritn"}, UsageError, "got 'tritn'", "nearest is triton"),
        ({"gpu": "h200"}, UsageError, "got 'h200'", "nearest is h200-sxm"),
        ({"weight_dtype": "fp8"}, UsageError, "--weight-dtype must be what", "knows bf16"),
        ({"celsius": float("nan")}, UsageError, "--celsius must lie in", ""),
        ({"ep_size": 3}, UsageError, "--ep must divide num_experts 8, got 3", ""),
        ({"tp_size": 3}, UsageError, "--tp must divide expert_size 14336, got 3", ""),
    ],
)
def test_a_layer_that_cannot_be_asked_for_is_one_clear_error(
    model: CostModel, changes: dict[str, object], error: type[Exception], message: str, hint: str
) -> None:
    request = {"layer": "mixtral-8x7b", "tokens": "1", "pattern": "uniform"} | changes

    with pytest.raises(error, match=message) as raised:
        points_of_layer(model, LayerRequest(**request))  # type: ignore[arg-type]

    assert hint in (raised.value.hint or "")
