"""Claims about what `fit-cost` shows and writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow.csv as pa_csv
import pytest

from moeprof.cost.assess import Peers
from moeprof.cost.fit import FitSettings
from moeprof.cost.fitting import FitRequest
from moeprof.cost.holdout import Holdout
from moeprof.cost.model_file import load_model
from moeprof.dataset.importers.csv_map import load_map
from moeprof.dataset.importers.csv_table import read_points
from moeprof.dataset.importers.write import Provenance, write_points
from moeprof.errors import DatasetError, ExitCode, UsageError
from moeprof.report.commands import show_sweep
from moeprof.report.fitted import fit_request, show_fit_cost

if TYPE_CHECKING:
    from pathlib import Path

QUICK = FitSettings(num_steps=20, num_rehearsal_steps=5)
TOKENS = (1, 2, 4, 8, 16, 64, 256, 1024)
GIVEN = {
    "hidden_size": "2048",
    "expert_size": "768",
    "num_experts": "128",
    "top_k": "8",
    "device_name": "NVIDIA H200",
    "weight_dtype": "bf16",
    "activation_dtype": "bf16",
    "routing_pattern": "uniform",
}
UNMARKED = {"holdout": None, "peers": "all", "noise": None, "sources": (), "seed": 0}


def imported(folder: Path, *, odd_microseconds: float | None = None) -> Path:
    """Return a dataset of 24 rows; with `odd_microseconds`, one row's latency is that."""
    lines = ["tokens,activated_experts,time_us"]
    for number in range(24):
        tokens = TOKENS[number % len(TOKENS)] + number // len(TOKENS)
        active = 128 * (1 - (1 - 8 / 128) ** tokens)
        lines.append(f"{tokens},{max(8, round(active))},{10 + 5 * active + tokens / 8}")
    if odd_microseconds is not None:
        lines[-1] = ",".join([*lines[-1].split(",")[:2], str(odd_microseconds)])
    folder.mkdir()
    file = folder / "moe.csv"
    file.write_text("\n".join(lines) + "\n")
    points = read_points(file, load_map("llmservingsim", GIVEN))
    write_points(folder / "data", points, Provenance("csv", "moe.csv", "0" * 64, options={}))
    return folder / "data"


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "out"
    show_sweep("quickstart", out=folder, selector="sim:h200-sxm", seed=None, as_json=True)
    return folder


def test_the_json_has_the_errors_of_every_method(
    simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = FitRequest((simulated,), noise_fractions=(0.0, 0.1))
    code = show_fit_cost(request, out=tmp_path / "m.json", as_json=True, settings=QUICK)

    assert code is ExitCode.DONE
    document = json.loads(capsys.readouterr().out)
    assert document["holdout"] == "tokens"
    assert set(document["methods"]["moeprof"]) == {"latency", "power", "energy"}
    assert set(document["methods"]["lightgbm"]["latency"]["all"]) == {
        *("num_rows", "median_ape", "mean_ape", "p90_ape", "bias", "interval_coverage"),
    }
    assert [each["noise"] for each in document["noise"]] == [0.0, 0.1]
    assert "interval_coverage_of_clean_rows" in document["noise"][1]["energy"]["all"]
    assert document["flagged_rows"] == 0
    assert document["fit_seconds"] > 0
    assert document["num_drift_corrected"] == document["num_rows"]


def test_the_table_has_the_methods_and_the_lines_what_is_not_known(
    simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = FitRequest((simulated,), peers=Peers.FAST)
    show_fit_cost(request, out=tmp_path / "m.json", as_json=False, settings=QUICK)

    shown = capsys.readouterr()
    assert "errors on rows held out: tokens" in shown.out
    for words in ("roofline_fitted", "token_interpolation", "latency, all", "energy, all"):
        assert words in shown.out
    assert "random_forest: not judged: slow" in shown.out
    assert "SIMULATED" in shown.out
    assert "corrected for drift" in shown.out
    assert "not identified: temperature" in shown.out
    assert f"model: {tmp_path / 'm.json'}" in shown.out
    assert "lightgbm: tokens" in shown.err


def test_the_written_model_says_where_it_comes_from_and_what_it_is_worth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = FitRequest((imported(tmp_path / "a"),), holdout=Holdout.RANDOM, peers=Peers.NONE)
    show_fit_cost(request, out=tmp_path / "m.json", as_json=False, settings=QUICK)

    provenance = load_model(tmp_path / "m.json").provenance
    assert provenance.sources == ("imported",)
    assert "24 rows" in provenance.datasets[0]
    assert "sha256 000000000000" in provenance.datasets[0]
    assert provenance.not_identified == ("temperature", "clock", "power", "power limit")
    assert provenance.held_out["holdout"] == "random"
    assert "median_ape" in provenance.held_out["latency"]["all"]
    assert "moeprof" in capsys.readouterr().out


def test_rows_in_doubt_are_listed_with_their_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = FitRequest((imported(tmp_path / "a", odd_microseconds=20.0),), holdout=Holdout.NONE)
    csv = tmp_path / "doubt.csv"

    show_fit_cost(request, out=tmp_path / "m", suspects=csv, as_json=False, settings=QUICK)
    text = capsys.readouterr().out
    show_fit_cost(request, out=tmp_path / "m", as_json=True, settings=QUICK)
    (listed,) = json.loads(capsys.readouterr().out)["suspects"]

    assert "rows in doubt: 1 of 24" in text
    assert "d=2048 f=768 E=128 k=8 ep=1 tp=1 B=1026" in text
    assert "not judged: --holdout none" in text
    assert listed["batch_size"] == 1026
    assert listed["weight"] < 1
    assert pa_csv.read_csv(csv)["batch_size"].to_pylist() == [1026]


def test_sources_are_put_together_only_when_named(
    simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = (simulated, imported(tmp_path / "a"))
    out = tmp_path / "m.json"
    with pytest.raises(DatasetError, match="one source, got imported, simulated"):
        show_fit_cost(FitRequest(both), out=out, as_json=True, settings=QUICK)

    for sources, num_rows in ((("imported",), 24), (("imported", "simulated"), 48)):
        request = FitRequest(both, sources=sources, holdout=Holdout.NONE)
        show_fit_cost(request, out=out, as_json=True, settings=QUICK)
        document = json.loads(capsys.readouterr().out)
        assert document["sources"] == list(sources)
        assert document["num_rows"] == num_rows


def test_a_dataset_named_twice_is_refused(simulated: Path, tmp_path: Path) -> None:
    request = FitRequest((simulated, simulated.parent / "out" / "."))
    with pytest.raises(DatasetError, match="is named twice"):
        show_fit_cost(request, out=tmp_path / "m.json", as_json=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"holdout": "token"}, "--holdout must be one of random, tokens"),
        ({"peers": "some"}, "--peers must be one of all, fast, none"),
        ({"noise": "0,x"}, "--noise must be fractions in 0..1, got 'x'"),
        ({"noise": "-0.1"}, "got '-0.1'"),
        ({"noise": "2"}, "got '2'"),
    ],
)
def test_a_word_that_means_nothing_is_refused(changes: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        fit_request((), **UNMARKED | changes)


def test_levels_of_noise_are_read_once_each(tmp_path: Path) -> None:
    request = fit_request((tmp_path,), **UNMARKED | {"noise": "0, 0.01,0.01"})

    assert request.noise_fractions == (0.0, 0.01)


def test_a_place_that_cannot_be_written_is_refused_before_the_fit(tmp_path: Path) -> None:
    for out in (tmp_path, tmp_path / "no" / "m.json"):
        with pytest.raises(UsageError, match="--out"):
            show_fit_cost(FitRequest((tmp_path / "nowhere",)), out=out, as_json=True)


def test_noise_without_rows_held_out_is_refused(tmp_path: Path) -> None:
    request = FitRequest((tmp_path,), holdout=Holdout.NONE, noise_fractions=(0.1,))
    with pytest.raises(UsageError, match="--noise"):
        show_fit_cost(request, out=tmp_path / "m.json", as_json=True)
