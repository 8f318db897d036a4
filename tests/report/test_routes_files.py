"""What `moeprof route-eval --out` leaves: JSON, Parquet, Markdown and pictures."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from route_examples import SCENE, TOP_K, example_runs, load_example

from moeprof.errors import UsageError
from moeprof.evaluation.judge.gates import GateJudged, judge_gates
from moeprof.recipe.gates import GateSection
from moeprof.report.routes_adaptation import draw_adaptation
from moeprof.report.routes_document import routes_document
from moeprof.report.routes_files import append_step_summary, check_folder, write_files
from moeprof.report.routes_front import draw_fronts
from moeprof.report.routes_gates import gate_line, verdict_words
from moeprof.report.routes_lambda import draw_lambda
from moeprof.report.routes_scene import SceneReport, scene_report
from moeprof.report.routes_steps import STEPS, write_steps

if TYPE_CHECKING:
    from pathlib import Path

GATES = (
    {"name": "faster", "against": "oea", "at_most_ratio": 0.9},
    {"name": "short", "at_most": 79e-6},
    {"name": "frugal | cool", "metric": "joules_per_token.mean", "at_most": 0.01},
)
KEYS = {
    "setting",
    "claim",
    "hardware",
    "step_latency_seconds",
    "joules_per_token",
    "active_experts",
    "peak_celsius",
    "throttled_seconds",
    "delta_cross_entropy_nats",
    "gate_mass_retained",
    "selections_changed_fraction",
    "router_seconds",
}


def reported(folder: Path, text: str = SCENE, *, is_swept: bool = False) -> SceneReport:
    loaded = load_example(folder, text)
    lambdas = (0.0, 1.0) if is_swept else ()
    return scene_report(loaded, example_runs(loaded, lambdas=lambdas), is_swept=is_swept)


def judged(report: SceneReport, folder: Path) -> tuple[GateJudged, ...]:
    common = {"policy": "marginal-cost", "metric": "step_latency_seconds.mean"}
    gates = [GateSection.model_validate({**common, **each}) for each in GATES]
    return judge_gates(gates, {"a-scene": report.runs}, path=folder / "gates.toml", seed=0)


def test_a_gate_is_a_line_with_what_was_found_and_what_more_seeds_would_do(tmp_path: Path) -> None:
    report = reported(tmp_path)
    gates = judged(report, tmp_path)

    lines = [gate_line(gate, {"a-scene": report}) for gate in gates]

    # 0.8 x 18.37 µs is half the interval, 1 µs the gap: 4 x 14.7**2 = 864 seeds, 860 more.
    about, latency = "re-routed, emulated", "step_latency_seconds.mean of marginal-cost"
    more = gates[1].num_more_seeds
    assert more is not None
    assert lines[0] == (
        f"pass         a-scene: faster: {about}: {latency} over oea's 0.8889 [0.8889, 0.8889], "
        "must be at most 0.9"
    )
    assert lines[1] == (
        f"inconclusive a-scene: short: {about}: {latency} 8e-05 [6.53e-05, 9.47e-05], "
        f"must be at most 7.9e-05; needs {more} more seeds or so: --seeds {4 + more}"
    )
    assert lines[2] == (
        f"fail         a-scene: frugal | cool: {about}: joules_per_token.mean of marginal-cost "
        "0.02 [0.01633, 0.02367], must be at most 0.01"
    )
    assert 855 <= more <= 865
    assert verdict_words(gates) == "gates: fail (1 fail, 1 inconclusive, 1 pass)"


def test_the_document_has_the_keys_that_were_promised(tmp_path: Path) -> None:
    report = reported(tmp_path)

    document = json.loads(json.dumps(routes_document([report], judged(report, tmp_path))))

    assert set(document) == {"scenes", "gates", "verdict"}
    scene = document["scenes"]["a-scene"]
    assert set(scene) == {"routers", "pareto", "power_versus_performance"}
    assert all(set(each) == KEYS for each in scene["routers"].values())
    ours = scene["routers"]["marginal-cost"]
    assert set(ours["step_latency_seconds"]) == {"mean", "p50", "p95", "p99", "low", "high"}
    assert ours["step_latency_seconds"]["mean"] == pytest.approx(80e-6)
    assert (ours["claim"], ours["hardware"]) == ("re-routed", "emulated")
    assert ours["delta_cross_entropy_nats"] is None
    assert [gate["verdict"] for gate in document["gates"]] == ["pass", "inconclusive", "fail"]
    assert {"name", "verdict", "margin", "estimate", "low", "high"} <= set(document["gates"][0])
    assert document["verdict"] == "fail"


def test_without_a_gate_there_is_no_verdict(tmp_path: Path) -> None:
    document = routes_document([reported(tmp_path)], ())

    assert document["gates"] == []
    assert document["verdict"] is None


def test_every_step_is_a_row_whose_fields_name_their_units(tmp_path: Path) -> None:
    recorded, live = reported(tmp_path), reported(tmp_path, SCENE.replace('"recorded"', '"live"'))
    sink = io.BytesIO()

    write_steps([recorded.every_run, live.every_run], sink)
    table = pq.read_table(sink)

    assert table.num_rows == 2 * 6 * TOP_K.size
    assert table.schema.equals(STEPS, check_metadata=True)
    for field in STEPS:
        assert field.metadata[b"unit"]
        assert field.metadata[b"description"]
    assert STEPS.field("step_seconds").metadata[b"unit"] == b"s"
    row = table.slice(2 * TOP_K.size + 3, 1).to_pylist()[0]  # oea, second seed, second step
    assert (row["policy"], row["setting"], row["seed"], row["step"]) == (
        "oea", '{"base_k": 2}', 1, 1,
    )  # fmt: skip
    assert row["step_seconds"] == 0.9 * TOP_K[1, 1]
    assert row["loss_difference_nats"] is None
    losses = table.column("loss_difference_nats")
    assert losses.null_count == 6 * TOP_K.size
    assert row["hardware"] == "emulated"
    assert np.isclose(pa.compute.max(losses).as_py(), 0.041)


def test_pictures_are_svg_in_which_every_policy_is_named(tmp_path: Path) -> None:
    report = reported(tmp_path, is_swept=True)
    front, adaptation, swept = draw_fronts(report), draw_adaptation(report), draw_lambda(report)

    assert adaptation is not None
    assert swept is not None
    for picture in (front, adaptation, swept):
        assert ET.fromstring(picture).tag.endswith("svg")  # noqa: S314 - our own
    # Matplotlib draws letters as paths and writes each text as a comment beside them.
    for policy in ("top-k", "slow-exact", "oea", "marginal-cost", "oracle"):
        assert front.count(f"<!-- {policy} -->".encode()) == 2
    assert b"<!-- budget -->" in front
    assert b"<!-- GPU 1 -->" in adaptation
    assert "<!-- λ, unitless -->".encode() in swept
    assert b"<!-- top-k -->" in swept


def test_a_policy_far_beyond_the_budget_is_named_at_the_edge(tmp_path: Path) -> None:
    text = SCENE + "\n[budget]\ngate_mass_fraction = 0.997\n"

    picture = draw_fronts(reported(tmp_path, text))

    assert "<!-- oea, at 4 → -->".encode() in picture


def test_pictures_of_what_was_not_swept_or_did_not_adapt_are_not_there(tmp_path: Path) -> None:
    loaded = load_example(tmp_path)
    runs = example_runs(loaded, only=("oea",))
    report = scene_report(loaded, runs, is_swept=False)

    assert draw_lambda(report) is None
    assert draw_adaptation(report) is None
    assert b"<!-- oea -->" in draw_fronts(report)


def test_all_files_are_the_same_every_time(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        report = reported(tmp_path, is_swept=True)
        gates = judged(report, tmp_path)
        check_folder(tmp_path / name)
        write_files(tmp_path / name, [report], gates, routes_document([report], gates))
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})

    assert contents[0] == contents[1]
    assert set(contents[0]) == {
        "route-eval.json",
        "runs.parquet",
        "summary.md",
        "front-a-scene.svg",
        "adaptation-a-scene.svg",
        "lambda-a-scene.svg",
    }


def test_without_matplotlib_a_line_says_why_there_are_no_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moeprof.report.routes_files.can_draw", lambda: False)
    report = reported(tmp_path)

    lines = write_files(tmp_path, [report], (), routes_document([report], ()))

    assert lines[0] == "no pictures: they need matplotlib, pip install 'moeprof[report]'"
    assert not list(tmp_path.glob("*.svg"))


def test_the_summary_begins_with_the_gates_and_ends_with_what_is_emulated(tmp_path: Path) -> None:
    report = reported(tmp_path)
    gates = judged(report, tmp_path)

    write_files(tmp_path, [report], gates, {})
    lines = (tmp_path / "summary.md").read_text(encoding="utf-8").splitlines()

    assert lines[:5] == [
        "# moeprof route-eval",
        "",
        "**gates: fail (1 fail, 1 inconclusive, 1 pass)**",
        "",
        "| verdict | scene | gate | claim | figure | found | must be |",
    ]
    assert lines[8].startswith("| fail | a-scene | frugal \\| cool | re-routed, emulated |")
    assert "Who \\| wins?" in lines
    assert (
        "| marginal-cost | re-routed | 80.0 ± 14.7 | -20.0 ± 0.0 \\* | 80.0 | 88.0 | 88.0 "
        "| 20.00 ± 3.67 | -20.0 ± 0.0 \\* |"
    ) in lines
    assert lines[-2:] == ["- Leakage is the catalogue's.", "- Speeds of GPUs are the scene's own."]


def test_a_step_of_github_actions_gets_the_summary_behind_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    report = reported(tmp_path)

    append_step_summary([report], judged(report, tmp_path))

    assert page.read_text(encoding="utf-8").startswith("before\n# moeprof route-eval\n")


def test_a_folder_or_page_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    report = reported(tmp_path)

    with pytest.raises(UsageError, match=r"--out .*file: cannot be written"):
        check_folder(file)
    with pytest.raises(UsageError, match=r"GITHUB_STEP_SUMMARY .*: cannot be written"):
        append_step_summary([report], judged(report, tmp_path))
