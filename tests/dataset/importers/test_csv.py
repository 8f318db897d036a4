"""Claims about importing anybody's CSV through a map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeprof.dataset.importers.csv_map import load_map, maps_folder
from moeprof.dataset.importers.csv_table import read_points
from moeprof.dataset.importers.write import Provenance, write_points
from moeprof.dataset.read import read_measurements
from moeprof.errors import DatasetError, InputError

ROOT = Path(__file__).resolve().parents[3]
CSV = "experts,k,d,f,tokens,us,dtype\n8,2,64,96,4,12.5,BF16\n8,2,64,96,,13,BF16\n"
MAP = """
[columns]
num_experts = "experts"
top_k = "k"
hidden_size = "d"
expert_size = "f"
batch_size = "tokens"
latency_seconds = "us"
weight_dtype = "dtype"

[constants]
device_name = "NVIDIA L40S"
kernel = "mine"
routing_pattern = "uniform"

[units]
latency_seconds = "us"

[values.weight_dtype]
BF16 = "bf16"
"""


def imported(
    tmp_path: Path, csv: str, layout: str, constants: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """The rows of a dataset that a CSV is imported into."""
    path = tmp_path / "theirs.csv"
    path.write_text(csv)
    points = read_points(path, load_map(layout, constants or {}))
    write_points(tmp_path / "out", points, Provenance("csv", path.name, "0"))
    return read_measurements(tmp_path / "out").to_pylist()


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "map.toml"
    path.write_text(text)
    return str(path)


def test_a_map_says_columns_units_constants_and_meanings(tmp_path: Path) -> None:
    good, bad = imported(tmp_path, CSV, written(tmp_path, MAP))

    assert good["latency_seconds"] == pytest.approx(12.5e-6)
    assert good["weight_dtype"] == "bf16"
    assert good["device_kind"] == "imported:l40s"
    assert (good["ep_size"], good["tp_size"], good["num_projections"]) == (1, 1, 3)
    assert good["rows_reconstructed"] is True
    assert good["num_rows"] == 8
    assert good["activation_bytes"] is None
    assert bad["status"] == "failed"
    assert "batch_size" in bad["status_detail"]


def test_constants_may_be_set_beside_the_map(tmp_path: Path) -> None:
    first, _ = imported(tmp_path, CSV, written(tmp_path, MAP), {"ep_size": "4"})

    assert first["ep_size"] == 4


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[units]", "[unit]", "unknown key 'unit'; did you mean units"),
        ("top_k =", "topk =", "columns.topk: moeprof has no such column; did you mean top_k"),
        ('kernel = "mine"', "", "says nothing of kernel"),
        ('latency_seconds = "us"\n\n[v', 'latency_seconds = "W"\n\n[v', "must be s or ms or us"),
        ("[columns]", "[constants]", "cannot be read as TOML"),
        ('"tokens"', "3", "columns.batch_size"),
    ],
)
def test_a_wrong_map_is_refused_with_what_would_be_right(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in MAP
    layout = written(tmp_path, MAP.replace(old, new, 1))

    with pytest.raises(InputError, match=said):
        load_map(layout, {})


def test_a_column_that_the_csv_lacks_is_answered_with_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no column 'tokens', .* did you mean 'token'") as refused:
        imported(tmp_path, CSV.replace("tokens", "token"), written(tmp_path, MAP))

    assert refused.value.hint is not None
    assert "experts, k, d, f, token, us, dtype" in refused.value.hint


def test_a_text_among_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="column us: must hold numbers, got 'fast'"):
        imported(tmp_path, CSV.replace("12.5", "fast"), written(tmp_path, MAP))


def test_an_unknown_map_is_answered_with_those_that_ship() -> None:
    with pytest.raises(InputError) as refused:
        load_map("fronteer", {})

    assert refused.value.hint is not None
    assert "frontier, llmservingsim, vidur-mlp" in refused.value.hint


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no rows"):
        imported(tmp_path, CSV.splitlines()[0] + "\n", written(tmp_path, MAP))


def test_every_shipped_map_says_where_its_layout_is_from() -> None:
    given = dict.fromkeys(
        ("device_name", "hidden_size", "expert_size", "num_experts", "top_k", "weight_dtype"), "1"
    )
    for path in maps_folder().glob("*.toml"):
        assert load_map(path.stem, given).source.startswith("https://"), path.name


def test_frontier_gives_the_load_of_the_experts(tmp_path: Path) -> None:
    header = (
        "time_stats.moe_grouped_gemm.mean,time_stats.moe_grouped_gemm.median,num_tokens,"
        "num_experts,num_experts_per_device,expert_parallel_size,router_topk,hidden_dim,"
        "expert_hidden_dim,use_gated,num_tensor_parallel_workers,total_routed_tokens,"
        "expert_utilization,max_load_ratio,load_distribution,profiling_precision\n"
    )
    rows = (
        "0.21,0.2,2,128,32,4,8,2048,768,True,1,16,0.375,4.0,skewed,BF16\n"
        ",,2,128,32,4,8,2048,768,True,1,16,0.375,4.0,skewed,BF16\n"
    )

    good, bad = imported(tmp_path, header + rows, "frontier", {"device_name": "NVIDIA H800"})

    assert (good["num_active_experts"], good["num_rows"]) == (12, 16)
    assert good["max_rows_per_expert"] == 2
    assert good["latency_seconds"] == pytest.approx(0.2e-3)
    assert good["rows_reconstructed"] is False
    assert good["weight_bytes"] == 12 * 3 * 2048 * 768 * 2
    assert bad["status"] == "failed"


def test_llmservingsim_gives_tokens_and_activated_experts(tmp_path: Path) -> None:
    shape = {"hidden_size": "2048", "expert_size": "768", "num_experts": "128", "top_k": "8"}
    given = {**shape, "device_name": "NVIDIA H200", "weight_dtype": "bf16"}

    (row,) = imported(
        tmp_path, "tokens,activated_experts,time_us\n4,16,33.5\n", "llmservingsim", given
    )

    assert (row["num_active_experts"], row["num_rows"], row["batch_size"]) == (16, 32, 4)
    assert row["latency_seconds"] == pytest.approx(33.5e-6)
    assert row["rows_reconstructed"] is False


def test_vidur_adds_up_the_parts_of_a_dense_layer(tmp_path: Path) -> None:
    csv = (
        "time_stats.mlp_up_proj.median,time_stats.mlp_act.median,time_stats.mlp_down_proj.median,"
        "n_embd,n_expanded_embd,use_gated_mlp,num_tokens,num_tensor_parallel_workers\n"
        "0.3,0.05,0.25,2560,10240,False,64,2\n"
    )

    (row,) = imported(tmp_path, csv, "vidur-mlp", {"device_name": "NVIDIA H100 80GB HBM3"})

    assert row["latency_seconds"] == pytest.approx(0.6e-3)
    assert (row["num_active_experts"], row["num_rows"], row["num_projections"]) == (1, 64, 2)
    assert row["weight_bytes"] == 2 * 2560 * 5120 * 2


def test_the_map_in_the_documents_reads_the_csv_beside_it(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "importing.md").read_text(encoding="utf-8")
    csv, layout = text.partition("A CSV such as")[2].split("comes in by the map")

    (row,) = imported(tmp_path, indented(csv), written(tmp_path, indented(layout)))

    assert row["latency_seconds"] == pytest.approx(91e-6)
    assert row["weight_dtype"] == "bf16"
    assert row["num_rows"] == 128
    assert row["rows_reconstructed"]


def indented(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("    ")]
    return "".join(f"{line[4:]}\n" for line in lines)
