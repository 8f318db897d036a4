"""What a layer's shape tells of a row that names no model: the model, the expert's projections."""

from __future__ import annotations

import tomllib
from typing import Any, NamedTuple

from moeprof.errors import CatalogueError
from moeprof.resources import data_folder
from moeprof.workload.catalogue import model, model_names


class Shape(NamedTuple):
    """Hidden size d, expert size f, routed experts E and experts per token k of a layer."""

    hidden_size: int
    expert_size: int
    num_experts: int
    top_k: int


def models_by_shape() -> dict[Shape, str]:
    """Return the catalogue's models by their layer's shape, where only one model has it.

    Raises:
        CatalogueError: a file of the catalogue is malformed.

    """
    found: dict[Shape, list[str]] = {}
    for name in model_names():
        layer = model(name).layer
        shape = Shape(layer.hidden_size, layer.expert_size, layer.num_experts, layer.top_k)
        found.setdefault(shape, []).append(name)
    return {shape: names[0] for shape, names in found.items() if len(names) == 1}


def shapes_without_gate() -> frozenset[Shape]:
    """Return the shapes whose experts have two projections; all others have three.

    Raises:
        CatalogueError: `data/experts-without-gate.toml` is unreadable or malformed.

    """
    return frozenset(Shape(**shape) for shape in _without_gate("shapes"))


def kernels_with_gate() -> frozenset[str]:
    """Return the kernels that ran experts of every shape with three projections.

    Raises:
        CatalogueError: `data/experts-without-gate.toml` is unreadable or malformed.

    """
    return frozenset(_without_gate("kernels_with_gate"))


def _without_gate(key: str) -> list[Any]:
    path = data_folder() / "experts-without-gate.toml"
    try:
        found: list[Any] = tomllib.loads(path.read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CatalogueError(f"{path}: has no list of {key}: {error}") from error
    return found
