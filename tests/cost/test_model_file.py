from __future__ import annotations

import json
import random
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from cost.tables import table

from moeprof.cost.anchors import fit_anchors
from moeprof.cost.contexts import contexts_of
from moeprof.cost.model import CostModel
from moeprof.cost.model_file import load_model, save_model
from moeprof.cost.model_schema import FORMAT_VERSION, ModelDocument, PartSection, ProvenanceSection
from moeprof.cost.part_model import PartModel
from moeprof.cost.points import points_from_table
from moeprof.cost.provenance import Provenance
from moeprof.cost.thermal import ClockEffect, GPUThermal, KernelEffect, Thermal
from moeprof.errors import ExitCode, ModelFileError, MoeprofError
from moeprof.record import Interval

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pyarrow as pa

    from moeprof.cost.points import Points

HUGE = (10**400, -(10**25), 1e308, -1e308, 5e-324, 2**63, 2**31, -1, 0, 1e-12)
OTHERS = ("12", "", "NaN", None, True, [], {}, [[]], "moeprof", 3, 0.5)


@pytest.fixture(scope="session")
def saved(model: CostModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.json"
    save_model(model, path)
    return path


@pytest.fixture(scope="session")
def asked(measured_table: pa.Table) -> Points:
    """Points that were measured, and the same layers at batch sizes and patterns that were not."""
    rows = measured_table.to_pylist()
    changes = {"routing_pattern": "zipf:0.8"}
    new = [each | changes | {"batch_size": each["batch_size"] * 3 + 1} for each in rows]
    return points_from_table(table([*rows, *new]))


def everything(model: CostModel, points: Points) -> dict[str, np.ndarray[Any, Any]]:
    found = dict(model.breakdown(points))
    for name in ("seconds", "average_watts", "joules"):
        predicted = getattr(model, name)(points)
        if predicted is not None:
            for field in ("value", "low", "high", "extrapolating"):
                found[f"{name} {field}"] = getattr(predicted, field)
    return found


def test_a_loaded_model_predicts_the_same_bit_for_bit(
    model: CostModel, saved: Path, asked: Points
) -> None:
    before, after = everything(model, asked), everything(load_model(saved), asked)

    assert before.keys() == after.keys()
    assert "joules value" in after
    for name, values in before.items():
        assert values.tobytes() == after[name].tobytes(), name


def test_what_is_known_of_temperature_and_clock_comes_back_equal(
    model: CostModel, tmp_path: Path
) -> None:
    slope = Interval(0.001, 0.0005, 0.0015, 0.9)
    gpu = GPUThermal(
        gpu="h200-sxm",
        reference_celsius=55.0,
        lowest_celsius=40.0,
        highest_celsius=80.0,
        power_limit_watts=700.0,
        leakage_watts_per_celsius=Interval(0.4, 0.3, 0.5, 0.9),
        leakage_efold_celsius=None,
        watts_per_celsius=None,
        sm_clock_hertz_per_celsius=Interval(-1e6, -2e6, -1e5, 0.9),
        kernels=(KernelEffect("vllm 0.24.0 | triton | bf16 | bf16", slope),),
        clock=ClockEffect((0.0, 3.5), (1.7e9, 1.6e9), (0.1, 0.8), (0.9, 2.1)),
    )
    warm = replace(model, thermal=Thermal((gpu,)))
    save_model(warm, tmp_path / "warm.json")

    assert load_model(tmp_path / "warm.json").thermal == warm.thermal


def test_an_adaptation_comes_back_bit_for_bit(
    model: CostModel, asked: Points, tmp_path: Path
) -> None:
    contexts = contexts_of(asked)
    residual = np.random.default_rng(0).normal(0.3, 0.1, len(asked))
    anchors = fit_anchors(asked, contexts, residual, np.ones(len(asked)), model.latency.encoder)
    adapted = replace(model, latency=replace(model.latency, anchors=(anchors,)))
    save_model(adapted, tmp_path / "adapted.json")
    before = everything(adapted, asked)
    after = everything(load_model(tmp_path / "adapted.json"), asked)

    assert (before["seconds value"] != everything(model, asked)["seconds value"]).all()
    for name, values in before.items():
        assert values.tobytes() == after[name].tobytes(), name


def test_no_field_of_a_model_is_left_out_of_its_file() -> None:
    kept = {CostModel: ModelDocument, PartModel: PartSection, Provenance: ProvenanceSection}
    renamed = {"parts": "terms", "curves": "measured", "seen": "measured"}
    for dataclass, section in kept.items():
        names = {renamed.get(field.name, field.name) for field in fields(dataclass)}

        assert names <= section.model_fields.keys()


def test_saving_what_was_loaded_writes_the_same_file(saved: Path, tmp_path: Path) -> None:
    save_model(load_model(saved), tmp_path / "again.json")

    assert (tmp_path / "again.json").read_bytes() == saved.read_bytes()


def test_a_file_that_cannot_be_written_leaves_the_old_one(model: CostModel, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be written"):
        save_model(model, tmp_path / "nowhere" / "model.json")

    assert list(tmp_path.iterdir()) == []


def test_a_file_cut_short_anywhere_is_one_clear_error(saved: Path, tmp_path: Path) -> None:
    data = saved.read_bytes()
    cut = tmp_path / "cut.json"
    for length in [0, 1, 2, *range(10, len(data) - 2, len(data) // 60), len(data) - 2]:
        cut.write_bytes(data[:length])
        with pytest.raises(ModelFileError, match=r"cut\.json: is not JSON"):
            load_model(cut)


def at(*place: str | int) -> Callable[[Any, Any], None]:
    """Return a function that puts a value at a place of a document."""

    def put(document: Any, value: Any) -> None:
        for step in place[:-1]:
            document = document[step]
        document[place[-1]] = value

    return put


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("format",), "pickle", "is no cost model"),
        (
            ("format_version",),
            FORMAT_VERSION + 1,
            f"format_version must be at most {FORMAT_VERSION}",
        ),
        (("format_version",), "1", "format_version: must be a valid integer, got '1'"),
        (("latency",), None, "latency: must be"),
        (("surprise",), 1, "surprise: there is no such key"),
        (("latency", "encoder", "scale", 3), 0.0, r"latency\.encoder\.scale\[3\]: must be greater"),
        (
            ("latency", "encoder", "centre", 3),
            "7.0",
            r"centre\[3\]: must be a valid number, got '7.0'",
        ),
        (("latency", "encoder", "flags", 0), "warp", "does not know 'warp'"),
        (("latency", "terms", 0), "magic", r"latency\.terms: this version .* not know 'magic'"),
        (("latency", "terms"), ["launch"], "network must end with a value for each"),
        (
            ("latency", "network", 0, "weights"),
            [[0.0]],
            r"latency\.network\[0\]: weights\[0\] must",
        ),
        (("latency", "network", 1, "biases", 0), 1e30, r"network\[1\]\.biases\[0\]: must be less"),
        (("latency", "measured", "grids", 0, 0), 31.0, r"grids\[0\]: must rise"),
        (("latency", "measured", "curves", 0, "values"), [0], "as many as the knots"),
        (
            ("latency", "measured", "curves", 0, "context"),
            10**6,
            r"curves\[0\] must name a context",
        ),
        (("latency", "measured", "contexts", "rows", 0, 2), 0, r"rows\[0\] must hold sizes of 1"),
        (("latency", "measured", "contexts", "rows", 0), [0, 0], r"contexts: rows\[0\] must have"),
        (("latency", "bands", 0, "reach"), "far", "must be one of curve"),
        (("latency", "bands", 0, "low"), 20.0, "low must be at most high"),
        (("provenance", "seed"), 1.5, r"provenance\.seed: must be a valid integer, got 1.5"),
        (("thermal",), {"__reduce__": "os.system"}, "thermal"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(
    saved: Path, tmp_path: Path, place: tuple[str | int, ...], value: object, message: str
) -> None:
    document = json.loads(saved.read_bytes())
    at(*place)(document, value)
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(document), encoding="utf-8")

    with pytest.raises(ModelFileError, match=message) as raised:
        load_model(path)

    assert str(raised.value).startswith(str(path))
    assert raised.value.hint
    assert raised.value.exit_code == ExitCode.INPUT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "is not JSON"),
        ('{"format": "moeprof-cost-model", "thermal": ' + '{"a":' * 50_000, "is not JSON"),
        ('{"format": "moeprof-cost-model", "format_version": NaN}', "is not JSON"),
        ('{"format": "moeprof-cost-model", "format_version": Infinity}', "is not JSON"),
        ('{"format": "moeprof-cost-model", "format_version": 1e999}', "format_version"),
        ('{"format": "moeprof-cost-model", "format_version": ' + "9" * 4000 + "}", "at most"),
        ('{"format": "moeprof-cost-model"}', "is missing"),
        ("[]", "is no cost model"),
        ("", "is not JSON"),
        ("cos\nsystem\n(S'true'\ntR.", "is not JSON"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "hostile.json"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ModelFileError, match=message) as raised:
        load_model(path)

    assert len(str(raised.value)) < 1000


def test_a_file_too_large_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moeprof.cost.model_file.from_json", lambda *_, **__: pytest.fail("parsed"))
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(64 * 2**20 + 1)

    with pytest.raises(ModelFileError, match="must have at most"):
        load_model(path)


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="must be a file"):
        load_model(tmp_path)
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_model(tmp_path / "absent.json")


def test_300_mutated_files_load_to_finite_predictions_or_are_refused(
    saved: Path, asked: Points, tmp_path: Path
) -> None:
    loaded, refused = mutate(saved, asked, tmp_path, num=300, seed=1)

    assert loaded > 20
    assert refused > 100


@pytest.mark.slow
def test_10_000_mutated_files_load_to_finite_predictions_or_are_refused(
    saved: Path, asked: Points, tmp_path: Path
) -> None:
    loaded, refused = mutate(saved, asked, tmp_path, num=10_000, seed=2)

    assert loaded > 500
    assert refused > 3000


def mutate(saved: Path, asked: Points, folder: Path, *, num: int, seed: int) -> tuple[int, int]:
    """Return how many of `num` mutated files were loaded, and how many refused."""
    draw = random.Random(seed)  # noqa: S311 - which mutations are tried is no secret
    data = saved.read_bytes()
    some = asked.take(np.arange(0, len(asked), 7))
    path = folder / "mutated.json"
    num_loaded = num_refused = 0
    for _ in range(num):
        path.write_bytes(mutated_bytes(data, draw) if draw.random() < 0.4 else mutated(data, draw))
        try:
            found = load_model(path)
        except MoeprofError as error:
            assert len(error.message) < 2000  # noqa: PT017 - a refusal is one of the two outcomes
            num_refused += 1
            continue
        num_loaded += 1
        for name, values in everything(found, some).items():
            assert np.isfinite(values).all(), (name, path.read_text("utf-8"))
    return num_loaded, num_refused


def mutated_bytes(data: bytes, draw: random.Random) -> bytes:
    """Flip, drop or repeat a few bytes."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(changed))
        match draw.randrange(4):
            case 0:
                changed[place] ^= 1 << draw.randrange(8)
            case 1:
                changed[place] = draw.choice(b'0123456789-.eE,:[]{}"ntf')
            case 2:
                del changed[place : place + draw.randint(1, 20)]
            case _:
                changed[place:place] = changed[place : place + draw.randint(1, 20)]
    return bytes(changed)


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Change one to three values of the document."""
    document = json.loads(data)
    for _ in range(draw.randint(1, 3)):
        change(document, draw)
    return json.dumps(document).encode()


def change(document: Any, draw: random.Random) -> None:
    while True:
        keys = list(document) if isinstance(document, dict) else list(range(len(document)))
        key = draw.choice(keys)
        value = document[key]
        if isinstance(value, dict | list) and value and draw.random() < 0.9:
            document = value
            continue
        match draw.randrange(6):
            case 0:
                document[key] = draw.choice(HUGE)
            case 1:
                document[key] = draw.choice(OTHERS)
            case 2:
                del document[key]
            case 3 if isinstance(document, list):
                document.extend([value] * draw.randint(1, 50))
            case 4 if isinstance(document, dict):
                document[str(key) + draw.choice(" x_")] = value
            case _ if isinstance(value, int | float) and abs(value) < 1e300:
                document[key] = draw.choice(
                    (value * 1.01, -value, value + 1, value * 1e3, value / 7)
                )
            case _:
                document[key] = str(value)
        return
