"""Claims about importing tables of NVIDIA's aiconfigurator."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from dataset.importers.tables import make_package, moe_row, write_moe_perf

from moeprof.dataset.importers import package
from moeprof.dataset.importers.aiconfigurator import read_points
from moeprof.dataset.importers.transfers import TRANSFER_COLUMNS, TRANSFERS, read_transfers
from moeprof.dataset.importers.write import Provenance, write_points
from moeprof.dataset.importers.write_transfers import write_transfers
from moeprof.dataset.read import read_measurements, read_runs
from moeprof.errors import DatasetError, InputError
from moeprof.workload.occupancy import expected_occupancy

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

FROM = Provenance("aiconfigurator", "moe_perf.parquet", "0" * 64, "Apache-2.0", {"a": "1"})


def imported(tmp_path: Path, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a dataset that a table is imported into."""
    points = read_points(write_moe_perf(tmp_path / "moe_perf.parquet", *rows))
    write_points(tmp_path / "out", points, FROM)
    return read_measurements(tmp_path / "out").to_pylist()


def test_a_row_keeps_its_facts_and_nothing_is_invented(tmp_path: Path) -> None:
    (row,) = imported(tmp_path, moe_row())

    known = {name: value for name, value in row.items() if value is not None}
    assert known.pop("recorded_at").tzinfo is not None
    assert len(known.pop("point_id")) == 16
    assert known == {
        "run_id": FROM.run_id,
        "order_index": 0,
        "role": "point",
        "status": "ok",
        "source": "imported",
        "device_kind": "imported:h200-sxm",
        "device_name": "NVIDIA H200",
        "kernel": "vllm_fused_moe",
        "engine": "vllm",
        "engine_version": "0.24.0",
        "model": "mixtral-8x7b",
        "hidden_size": 4096,
        "expert_size": 14336,
        "num_experts": 8,
        "top_k": 2,
        "weight_dtype": "bf16",
        "activation_dtype": "bf16",
        "batch_size": 16,
        "ep_size": 1,
        "ep_rank": 0,
        "tp_size": 1,
        "placement": "contiguous",
        "routing_pattern": "power_law:1.01",
        "num_local_experts": 8,
        "num_active_experts": 8,
        "num_rows": 32,
        "max_rows_per_expert": row["max_rows_per_expert"],
        "weight_bytes": row["weight_bytes"],
        "activation_bytes": 32 * 2 * (4096 + 14336) * 2,
        "flops": 2 * 3 * 4096 * 14336 * 32,
        "num_projections": 3,
        "rows_reconstructed": True,
        "latency_seconds": 0.731 * 1e-3,
        "energy_absent_reason": "the source has no power",
    }
    assert 4 < row["max_rows_per_expert"] <= 16
    # Every expert is active in nearly every draw of the distribution.
    assert 7.5 * 3 * 4096 * 14336 * 2 < row["weight_bytes"] <= 8 * 3 * 4096 * 14336 * 2


def test_energy_is_average_power_times_latency(tmp_path: Path) -> None:
    powered = {"power_limit": 700.0}
    rows = [moe_row(power=watts, **powered) for watts in (512.0, 0.0, math.nan, None)]

    with_power, *without = imported(tmp_path, *rows)

    assert with_power["energy_joules"] == 512.0 * with_power["latency_seconds"]
    assert with_power["average_watts"] == 512.0
    assert with_power["power_limit_watts"] == 700.0
    assert with_power["energy_source"] == "imported"
    for row in without:
        assert row["average_watts"] is row["energy_joules"] is row["energy_source"] is None
        assert row["energy_absent_reason"] == "the source has no power"


def test_row_counts_are_the_rounded_expectation_of_the_distribution(tmp_path: Path) -> None:
    shape = {"num_experts": 128, "topk": 8, "num_tokens": 5, "moe_ep_size": 4}

    strided, power_law = imported(
        tmp_path,
        moe_row(distribution="balanced", **shape),
        moe_row(distribution="power_law_1.2", **shape),
    )

    for row, pattern in ((strided, "strided"), (power_law, "power_law:1.2")):
        expected = expected_occupancy(pattern, 128, 8, 5, 4)
        assert row["routing_pattern"] == pattern
        assert row["num_active_experts"] == round(expected.num_active[0])
        assert row["num_rows"] == round(expected.num_rows[0])
        assert row["max_rows_per_expert"] == round(expected.max_rows[0])
        assert row["num_local_experts"] == 32


@pytest.mark.parametrize(
    ("moe_dtype", "weight", "activation", "bytes_per_weight"),
    [
        ("fp8_block", "fp8_block", "fp8", 1 + 4 / 16384),
        ("nvfp4", "nvfp4", "nvfp4", 0.5625),
        ("int4_wo", "int4", "bf16", 0.515625),
        ("w4a16_mxfp4", "mxfp4", "bf16", 0.53125),
        ("w4a8_mxfp4_mxfp8", "mxfp4", "mxfp8", 0.53125),
        ("w4afp8", "int4", "fp8", 0.515625),
    ],
)
def test_number_formats_are_told_apart_by_weights_and_activations(
    tmp_path: Path, moe_dtype: str, weight: str, activation: str, bytes_per_weight: float
) -> None:
    (row,) = imported(tmp_path, moe_row(moe_dtype=moe_dtype, distribution="balanced"))

    assert (row["weight_dtype"], row["activation_dtype"]) == (weight, activation)
    assert row["weight_bytes"] == round(8 * 3 * 4096 * 14336 * bytes_per_weight)


def test_experts_without_a_gate_have_two_projections(tmp_path: Path) -> None:
    shape = {"hidden_size": 2688, "inter_size": 1856, "num_experts": 128, "topk": 6}

    kernel = "vllm_unquantizedfusedmoe_triton_tritonexperts"

    (row,) = imported(tmp_path, moe_row(distribution="balanced", kernel_source=kernel, **shape))

    assert row["num_projections"] == 2
    assert row["flops"] == 2 * 2 * 2688 * 1856 * row["num_rows"]


def test_a_kernel_that_knew_no_other_experts_ran_every_shape_with_a_gate(tmp_path: Path) -> None:
    shape = {"hidden_size": 2688, "inter_size": 1856, "num_experts": 128, "topk": 6}

    (row,) = imported(tmp_path, moe_row(kernel_source="vllm_fused_moe", **shape))

    assert row["num_projections"] == 3


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"latency": math.nan}, "failed", "latency is missing, not finite or not above 0"),
        ({"latency": -1.0}, "failed", "latency is missing"),
        ({"moe_dtype": "fp3"}, "unsupported", "moe_dtype 'fp3' is not known"),
        ({"distribution": "sorted"}, "unsupported", "distribution 'sorted' is not known"),
        ({"topk": 9}, "failed", "top_k must be at most num_experts"),
        ({"num_tokens": 0}, "failed", "batch_size must be a whole number"),
        ({"moe_ep_size": 3}, "failed", "ep_size must divide num_experts"),
    ],
)
def test_a_row_that_cannot_be_used_is_kept_with_its_reason(
    tmp_path: Path, changes: dict[str, Any], status: str, said: str
) -> None:
    bad, good = imported(tmp_path, moe_row(**changes), moe_row())

    assert bad["status"] == status
    assert said in bad["status_detail"]
    assert bad["latency_seconds"] is None
    assert good["status"] == "ok"
    assert good["status_detail"] is None


def test_a_gpu_that_nobody_knows_is_grouped_by_its_own_name(tmp_path: Path) -> None:
    (row,) = imported(tmp_path, moe_row(device="Intel(R) Arc(TM) Pro B60 Graphics"))

    assert row["device_kind"] == "imported:intel-r-arc-tm-pro-b60-graphics"


def test_the_same_table_comes_in_once(tmp_path: Path) -> None:
    points = read_points(write_moe_perf(tmp_path / "t.parquet", moe_row(), moe_row(latency=0.8)))

    first, second = (write_points(tmp_path / "out", points, FROM) for _ in range(2))

    assert (first.was_there, second.was_there) == (False, True)
    assert read_measurements(tmp_path / "out").num_rows == 2
    (run,) = read_runs(tmp_path / "out")
    assert run.notes["import"]["sha256"] == "0" * 64
    assert run.notes["import"]["licence"] == "Apache-2.0"
    assert run.versions["a"] == "1"


def test_exact_repeats_are_one_point_measured_twice(tmp_path: Path) -> None:
    first, second = imported(tmp_path, moe_row(), moe_row(latency=0.8))

    assert first["point_id"] == second["point_id"]
    assert (first["order_index"], second["order_index"]) == (0, 1)


def test_another_table_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    row = moe_row()
    del row["topk"]

    with pytest.raises(DatasetError, match="has no topk"):
        read_points(write_moe_perf(tmp_path / "t.parquet", row))
    with pytest.raises(DatasetError, match="there is no such file"):
        read_points(tmp_path / "absent.parquet")


def test_tables_are_found_without_importing_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(make_package(tmp_path))

    tables = package.moe_tables(package.package_folder())

    assert [(t.system, t.engine, t.version, t.num_rows, t.has_power) for t in tables] == [
        ("b200_sxm", "trtllm", "1.3.0", 1, True),
        ("h200_sxm", "vllm", "0.24.0", 1, False),
    ]
    chosen = package.choose(tables, system="h200_sxm", engine=None, version=None)
    assert chosen == (tables[1],)


def test_a_wrong_system_is_answered_with_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(make_package(tmp_path))
    tables = package.moe_tables(package.package_folder())

    with pytest.raises(InputError, match=r"'h200-sxn'; did you mean h200_sxm") as refused:
        package.choose(tables, system="h200-sxn", engine=None, version=None)
    with pytest.raises(InputError, match=r"the version '0\.23\.0'; did you mean 0\.24\.0"):
        package.choose(tables, system="h200_sxm", engine="vllm", version="0.23.0")

    assert refused.value.hint is not None
    assert "b200_sxm, h200_sxm" in refused.value.hint


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "PACKAGE", "no_such_package_as_this")

    with pytest.raises(InputError, match="not installed") as refused:
        package.package_folder()

    assert refused.value.hint is not None
    assert "pip install 'moeprof[aic]'" in refused.value.hint


def test_transfers_have_a_table_of_their_own_in_si_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(make_package(tmp_path))
    nccl, deepep = package.transfer_files(package.package_folder(), "h200_sxm", ["vllm"])

    (collective,) = read_transfers(nccl, import_id="1", source_file="n").to_pylist()
    (combine,) = read_transfers(deepep, import_id="2", source_file="d").to_pylist()

    assert collective["message_bytes"] == 512  # elements of two bytes
    assert collective["latency_seconds"] == pytest.approx(5e-6)
    assert (collective["operation"], collective["num_ranks"]) == ("alltoall", 4)
    assert combine["latency_seconds"] == pytest.approx(42e-6)
    assert combine["transmit_seconds"] == pytest.approx(40e-6)
    assert (combine["mode"], combine["num_sms"], combine["dtype"]) == ("deepep_ll", 20, None)
    assert combine["device_kind"] == "imported:h200-sxm"


def test_each_half_of_deepep_is_a_row(tmp_path: Path) -> None:
    row = {
        "framework": "sglang",
        "version": "0.5.12",
        "device": "NVIDIA H200",
        "op_name": "ll",
        "kernel_source": "deepep",
        "node_num": 1,
        "hidden_size": 2048,
        "num_token": 1,
        "num_topk": 8,
        "num_experts": 128,
        "combine_avg_t_us": 10.5,
        "dispatch_avg_t_us": 8.8,
    }
    path = tmp_path / "sglang/0.5.12/wideep_deepep_ll_perf.parquet"

    found = read_transfers(write_moe_perf(path, row), import_id="1", source_file="x").to_pylist()

    assert [each["operation"] for each in found] == ["dispatch", "combine"]
    assert [each["latency_seconds"] for each in found] == pytest.approx([8.8e-6, 10.5e-6])


def test_every_column_of_transfers_states_its_unit() -> None:
    for column, field in zip(TRANSFER_COLUMNS, TRANSFERS, strict=True):
        assert field.metadata[b"unit"]
        assert field.metadata[b"description"] == column.description.encode()
    assert TRANSFERS.metadata[b"transfers_schema_version"] == b"1"


def test_transfers_replace_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(make_package(tmp_path / "p"))
    path, _ = package.transfer_files(package.package_folder(), "h200_sxm", ["vllm"])
    imported(tmp_path, moe_row())

    for _ in range(2):
        write_transfers(tmp_path / "out", path, FROM)

    assert len(list((tmp_path / "out" / "transfers").iterdir())) == 1


DEEPSEEK = {"hidden_size": 7168, "inter_size": 2048, "num_experts": 256, "topk": 8}


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"version": "0.24.0"}, "power_law:1.01/groups:8@4"),
        ({"version": "0.24.1rc1"}, "power_law:1.01/groups:8@4"),
        ({"version": "0.22.0"}, "power_law:1.01"),
        ({"version": "0.14.0"}, "packed_power_law:1.01"),
        ({"num_experts": 384}, "power_law:1.01"),
        ({"framework": "SGLang", "version": "0.5.14"}, "power_law:1.01/groups:8@4"),
        ({"framework": "SGLang", "version": "0.5.10"}, "power_law:1.01"),
        ({"framework": "TRTLLM", "kernel_source": "moe_torch_flow_cutlass"}, "power_law:1.01"),
        (
            {"framework": "TRTLLM", "kernel_source": "moe_torch_flow_min_latency"}
            | {"hidden_size": 4096, "num_experts": 128, "distribution": "balanced"},
            "strided/groups:8@4",
        ),
        (
            {"framework": "TRTLLM", "kernel_source": "moe_torch_flow_min_latency", "topk": 4},
            "power_law:1.01",
        ),
    ],
)
def test_rows_behind_a_gate_with_groups_say_so(
    tmp_path: Path, changes: dict[str, Any], pattern: str
) -> None:
    (row,) = imported(tmp_path, moe_row(**DEEPSEEK | changes))

    assert row["status"] == "ok"
    assert row["routing_pattern"] == pattern


def test_a_gate_whose_groups_have_one_expert_is_refused(tmp_path: Path) -> None:
    gate = {"framework": "TRTLLM", "kernel_source": "moe_torch_flow_min_latency"}

    (row,) = imported(tmp_path, moe_row(**gate, num_experts=8, topk=2))

    assert row["status"] == "failed"
    assert "a group must have 2 experts or more" in row["status_detail"]
    assert row["num_active_experts"] is None
