"""What the gates of serving engines make of the routing that a collector feeds them."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.dataset.importers.shapes import Shape
from moeprof.errors import CatalogueError
from moeprof.resources import data_folder
from moeprof.workload.routing.grouped import is_limiting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate with groups of experts, and the rows that went through it.

    They are those of `engine`, from version `since` on, of `kernel` and of `shape`; None: of any.
    """

    engine: str
    num_groups: int
    num_allowed: int
    since: str | None = None
    kernel: str | None = None
    shape: Shape | None = None

    def decides(
        self, engine: str | None, version: str | None, kernel: str | None, shape: Shape
    ) -> bool:
        """Whether rows of that engine, version, kernel and shape went through this gate."""
        is_new = self.since is None or _numbers(version or "") >= _numbers(self.since)
        return (
            engine == self.engine
            and is_new
            and self.kernel in {None, kernel}
            and self.shape in {None, shape}
        )


def known_gates() -> tuple[Gate, ...]:
    """Return the gates of `data/gates-with-groups.toml`.

    Raises:
        CatalogueError: the file is unreadable or malformed.

    """
    path = data_folder() / "gates-with-groups.toml"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))["gates"]
        return tuple(
            Gate(**{**table, "shape": Shape(**table["shape"]) if "shape" in table else None})
            for table in tables
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CatalogueError(f"{path}: not a list of gates: {error}") from error


def behind_gates(
    patterns: Sequence[str | None],
    engines: Iterable[str | None],
    versions: Iterable[str | None],
    kernels: Iterable[str | None],
    shapes: Iterable[Shape],
) -> list[str | None]:
    """Return each row's pattern as its gate changed it; one that no gate can change stays."""
    gates = known_gates()
    suffixes: dict[tuple[str | None, str | None, str | None, Shape], str] = {}
    found: list[str | None] = []
    rows = zip(engines, versions, kernels, shapes, strict=True)
    for pattern, row in zip(patterns, rows, strict=True):
        if row not in suffixes:
            deciding = [each for each in gates if each.decides(*row)]
            suffixes[row] = _suffix(deciding[0], row[-1]) if deciding else ""
        found.append(None if pattern is None else pattern + suffixes[row])
    return found


def _suffix(gate: Gate, shape: Shape) -> str:
    limits = is_limiting(
        num_experts=shape.num_experts,
        top_k=shape.top_k,
        num_groups=gate.num_groups,
        num_allowed=gate.num_allowed,
    )
    return f"/groups:{gate.num_groups}@{gate.num_allowed}" if limits else ""


def _numbers(version: str) -> tuple[int, ...]:
    """Return 0.24.0 as (0, 24, 0); what follows the numbers, as rc1, is left out."""
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(each) for each in leading.group().split(".")) if leading else ()
