"""Reading a gates file, with every fault named by file, gate and remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from moeprof.errors import RecipeError
from moeprof.recipe.faults import describe
from moeprof.recipe.gates import STORED, GatesFile
from moeprof.recipe.load import read_toml

if TYPE_CHECKING:
    from pathlib import Path

    from moeprof.recipe.gates import GateSection


@dataclass(frozen=True, slots=True)
class LoadedGates:
    """The gates of a file, and the earlier result that some are held against."""

    path: Path
    gates: tuple[GateSection, ...]
    stored: Path | None
    """None: no gate is held against one."""


def load_gates(path: Path, *, stored: Path | None = None) -> LoadedGates:
    """Read and check a gates file; `stored` replaces the path of an earlier result in it.

    Raises RecipeError naming the file, the gate, what was found and what would be right.
    """
    _, written = read_toml(path)
    try:
        found = GatesFile.model_validate(written)
    except ValidationError as error:
        raise RecipeError(f"{path}: {describe(error, GatesFile)}") from error
    needing = next((gate.name for gate in found.gates if gate.against == STORED), None)
    if stored is None and found.stored is not None:
        stored = path.parent / found.stored
    if needing is not None and stored is None:
        raise RecipeError(
            f"{path}: gate {needing!r}: is against a stored result, and none is given",
            hint="Write stored = 'result.json' above the gates, or give it on the command line.",
        )
    return LoadedGates(path, found.gates, stored if needing is not None else None)
