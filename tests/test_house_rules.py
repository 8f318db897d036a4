"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

import moeprof
from moeprof.dataset.schema import MEASUREMENTS, SAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(moeprof.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
MAX_LINES = 300

UNITS = (
    "_seconds", "_joules", "_watts", "_celsius", "_hertz", "_bytes", "_fraction", "_per_second",
    "_per_minute", "_per_celsius", "_kelvin_per_watt", "_per_kelvin", "_per_byte", "_per_flop",
    "_per_hertz", "_octaves", "_nats", "_experts",
)  # fmt: skip
# Pure numbers, which have no unit to name, and values whose unit depends on what they describe.
PURE = {
    *("exponent", "concentration", "confidence", "estimate", "low", "high", "achieved", "prior"),
    *("softmax_temperature", "scaling_factor"),  # divide logits, multiply weights
    # Gate mass over cost, both shares; a correlation; how lopsided a distribution is.
    *("lambda", "trade", "rank_correlation", "skewness"),
    *("load_imbalance", "gradient_norm", "capacity_factor", "similarity_threshold"),
}
COLUMN_SUFFIXES = ("_ci_low", "_ci_high", "_p10", "_p90", "_p99")


def names_a_unit(name: str) -> bool:
    words = name.strip("_")
    for suffix in (*COLUMN_SUFFIXES, "_min", "_max", "_start", "_end", "_drift_corrected"):
        words = words.removesuffix(suffix)
    return words in PURE or any(
        words.endswith(unit) or f"{unit}_per_" in words or words == unit.strip("_")
        for unit in UNITS
    )


def float_fields() -> Iterator[tuple[str, str]]:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ClassDef):
                continue
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    annotation = ast.unparse(field.annotation).replace(" ", "")
                    if annotation in {"float", "float|None"}:
                        yield f"{path.relative_to(PACKAGE)}:{node.name}", field.target.id


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_has_one_sentence_and_a_readable_size(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text))

    assert docstring, "a module docstring is the module's one sentence"
    summary = docstring.split("\n\n")[0]
    assert summary.endswith(".")
    assert text.count("\n") <= MAX_LINES


def test_every_float_field_names_its_unit() -> None:
    nameless = [f"{where}.{name}" for where, name in float_fields() if not names_a_unit(name)]

    assert not nameless


def test_every_float_column_names_its_unit_and_every_column_says_what_it_is() -> None:
    for schema in (MEASUREMENTS, SAMPLES):
        for field in schema:
            if pa.types.is_floating(field.type):
                assert names_a_unit(field.name), field.name
            assert field.metadata[b"description"], field.name
            assert b"unit" in field.metadata, field.name


def test_every_module_imports_without_a_gpu() -> None:
    for module in pkgutil.walk_packages([str(PACKAGE)], "moeprof."):
        if module.name != "moeprof.__main__":
            importlib.import_module(module.name)
