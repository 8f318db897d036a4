"""Claims about `moeprof route-eval` as a command."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
from route_examples import SCENE, example_runs, write_example

from moeprof.cli import main
from moeprof.errors import ExitCode
from moeprof.recipe.load_gates import load_gates
from moeprof.recipe.load_scene import load_scene, scene_names
from moeprof.report.routes_request import route_request
from moeprof.resources import recipes_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from moeprof.evaluation.runs import SceneRuns
    from moeprof.recipe.load_scene import LoadedScene

GATE = '[[gates]]\nname = "g"\npolicy = "marginal-cost"\nmetric = "step_latency_seconds.mean"\n'


def fake_evaluate(
    scenes: Sequence[LoadedScene],
    cost: object,
    *,
    num_workers: int,
    only: Sequence[str],
    lambdas: Sequence[float],
    on_progress: Callable[[str, int, int], None],
) -> dict[str, SceneRuns]:
    assert cost is None
    assert num_workers >= 1
    found = {}
    for number, each in enumerate(scenes, start=1):
        found[each.name] = example_runs(each, only=only, lambdas=lambdas)
        on_progress(each.name, number, len(scenes))
    return found


@pytest.fixture
def route_eval(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command in this process; return its exit code, stdout and stderr."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["moeprof", "route-eval", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("moeprof.report.routes.evaluate", fake_evaluate)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return write_example(tmp_path, SCENE)


@pytest.mark.parametrize(
    ("margin", "code", "word"),
    [
        ('against = "oea"\nat_most_ratio = 0.9\n', ExitCode.DONE, "pass"),
        ('against = "oea"\nat_most_ratio = 0.8\n', ExitCode.GATE_FAILED, "fail"),
        ("at_most = 80e-6\n", ExitCode.GATE_INCONCLUSIVE, "inconclusive"),
    ],
)
def test_the_exit_code_is_the_verdict_of_the_gates(
    scene: Path, tmp_path: Path, route_eval: Any, margin: str, code: int, word: str
) -> None:
    gates = tmp_path / "gates.toml"
    gates.write_text(GATE + margin, encoding="utf-8")

    found, out, _ = route_eval("--scene", scene, "--seeds", "4", "--check", gates)

    assert found == code
    assert f"\n{word:<12} a-scene: g: re-routed, emulated: " in out
    assert out.rstrip().endswith(f"gates: {word} (1 {word})")


def test_the_report_is_on_stdout_and_progress_on_stderr(scene: Path, route_eval: Any) -> None:
    code, out, err = route_eval("--scene", scene)

    assert code == ExitCode.DONE
    assert err == "[1/1] a-scene\n"
    for words in (
        "a-scene: Who | wins?",
        "cost: step latency and energy, emulated hardware",
        "quality and GPUs: recorded traffic",
        "re-routed, emulated: least mean latency: marginal-cost (λ=0.5) -20.0 ± 0.0 %",
        "is optimising for power the same goal as optimising for performance?",
    ):
        assert words in out
    assert "gates:" not in out


def test_json_is_one_document_and_the_same_twice(
    scene: Path, tmp_path: Path, route_eval: Any
) -> None:
    arguments = ("--scene", scene, "--json", "--out", tmp_path / "out")

    (code, first, _), (_, again, _) = route_eval(*arguments), route_eval(*arguments)

    assert code == ExitCode.DONE
    assert first == again
    document = json.loads(first)
    assert document["scenes"]["a-scene"]["routers"]["oea"]["setting"] == {"base_k": 2}
    assert document["verdict"] is None
    assert json.loads((tmp_path / "out" / "route-eval.json").read_text()) == document


def test_a_result_is_held_against_an_earlier_one(
    scene: Path, tmp_path: Path, route_eval: Any
) -> None:
    gates = tmp_path / "gates.toml"
    gates.write_text(GATE + 'against = "stored"\nat_most_ratio = 2.0\n', encoding="utf-8")
    route_eval("--scene", scene, "--out", tmp_path / "out")

    code, out, _ = route_eval(
        "--scene", scene, "--check", gates, "--against", tmp_path / "out" / "route-eval.json"
    )

    assert code == ExitCode.DONE
    assert "of marginal-cost over the stored result's 1 [" in out


def test_only_the_policies_named_and_the_baseline_run(scene: Path, route_eval: Any) -> None:
    _, out, _ = route_eval("--scene", scene, "--policy", "oea", "--json")

    assert set(json.loads(out)["scenes"]["a-scene"]["routers"]) == {"top-k", "oea"}


def test_a_sweep_adds_a_table_and_a_picture(scene: Path, tmp_path: Path, route_eval: Any) -> None:
    _, out, _ = route_eval("--scene", scene, "--sweep-lambda", "--out", tmp_path / "out")

    assert "marginal-cost by λ, re-routed, emulated hardware" in out
    assert (tmp_path / "out" / "lambda-a-scene.svg").is_file()


def test_a_dry_run_lists_what_would_run_and_runs_nothing(
    scene: Path, route_eval: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moeprof.report.routes.evaluate", None)

    _, out, _ = route_eval("--scene", scene, "--scene", "all-equal", "--dry-run", "--seeds", "3")
    _, document, _ = route_eval("--scene", scene, "--dry-run", "--json")

    assert (
        "  2 x h200-sxm, gpt-oss-20b, 4 tokens a step, recorded traffic, 2 steps x 3 seeds" in out
    )
    assert "  6 settings: top-k, slow-exact, oea (base_k=2), marginal-cost (λ=0.5), " in out
    assert "\nall-equal: " in out
    _, alone, _ = route_eval("--scene", scene, "--dry-run", "--workers", "1")
    assert alone.endswith("\n1 scene, 6 settings, 1 worker\n")
    plan = json.loads(document)
    assert plan["num_settings"] == 6
    assert plan["scenes"]["a-scene"]["settings"][2] == {"policy": "oea", "setting": {"base_k": 2}}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--scene", "all-eqal"), ExitCode.INPUT, "all-eqal: there is no such scene file"),
        (("--policy", "metr"), ExitCode.INPUT, "has no policy 'metr'"),
        (("--check", "nowhere.toml"), ExitCode.INPUT, "nowhere.toml: cannot be read"),
        (("nowhere.json",), ExitCode.INPUT, "nowhere.json: cannot be read"),
        (("--against", "x.json"), ExitCode.USAGE, "no gates are given"),
        (("--seeds", "0"), ExitCode.USAGE, "--seeds"),
        (("--workers", "0"), ExitCode.USAGE, "--workers"),
        (("--sweep-lambda", "--policy", "oea"), ExitCode.USAGE, "--policy leaves it out"),
        (("my.toml",), ExitCode.USAGE, "Give a scene as --scene my.toml"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_message(
    scene: Path, route_eval: Any, arguments: tuple[str, ...], code: int, words: str
) -> None:
    found, out, err = route_eval("--scene", scene, *arguments)

    assert found == code
    assert words in err
    assert not out


@pytest.mark.parametrize(
    ("gate", "code", "words"),
    [
        (GATE + 'scene = "another"\nat_most = 1\n', 3, "scene 'another' is not run, only a-scene"),
        (
            GATE + 'scene = "a-scene"\nagainst = "lynx"\nat_most_ratio = 1\n',
            3,
            "policy 'lynx' is not run in a-scene, only marginal-cost, oea, oracle",
        ),
        (GATE + 'against = "lynx"\nat_most_ratio = 1\n', 3, "has marginal-cost and lynx"),
        (GATE + "at_most = 1\n", 2, "no gate of .* is against a stored result"),
        (GATE + 'against = "stored"\nat_most_ratio = 1\n', 3, "gone.json: cannot be read"),
    ],
)
def test_gates_of_what_is_not_run_are_refused_before_anything_runs(
    scene: Path,
    tmp_path: Path,
    route_eval: Any,
    monkeypatch: pytest.MonkeyPatch,
    gate: str,
    code: int,
    words: str,
) -> None:
    monkeypatch.setattr("moeprof.report.routes.evaluate", None)
    path = tmp_path / "gates.toml"
    path.write_text(gate, encoding="utf-8")
    against = ("--against", tmp_path / "gone.json") if "stored" in gate + words else ()

    found, _, err = route_eval("--scene", scene, "--check", path, *against)

    assert found == code
    assert re.search(words, err), err


def test_two_scenes_of_one_name_are_refused(scene: Path, tmp_path: Path, route_eval: Any) -> None:
    (tmp_path / "b").mkdir()
    other = write_example(tmp_path / "b")

    code, _, err = route_eval("--scene", scene, "--scene", other)

    assert code == ExitCode.USAGE
    assert "scenes must differ in name" in err


def test_an_interrupted_comparison_says_so(
    scene: Path, route_eval: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("moeprof.report.routes.evaluate", interrupted)

    code, _, err = route_eval("--scene", scene)

    assert code == ExitCode.INTERRUPTED
    assert "nothing was judged" in err


def test_the_shipped_gates_name_what_the_shipped_scenes_have() -> None:
    path = recipes_folder() / "route-eval" / "gates.toml"

    request = route_request(None, check=path)

    assert request.gates is not None
    assert request.gates.gates == load_gates(path).gates
    assert {each.name for each in request.scenes} == set(scene_names())
    assert all(load_scene(each.path).scene == each.scene for each in request.scenes)


def test_the_real_thing_is_the_same_twice(route_eval: Any) -> None:
    arguments = ("--scene", "all-equal", "--seeds", "2", "--policy", "marginal-exact")

    (code, first, _), (_, again, _) = (
        route_eval(*arguments, "--workers", "1", "--json") for _ in range(2)
    )

    assert code == ExitCode.DONE
    assert first == again
    assert json.loads(first)["scenes"]["all-equal"]["routers"]["marginal-exact"]["claim"] == "exact"
