"""The configurations that engines ship, tuned for a layer on a device."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from moeprof.cost.tiles.tile import Tile
from moeprof.resources import data_folder

if TYPE_CHECKING:
    from collections.abc import Iterable


def tuned_tile(
    engine: str,
    device_names: Iterable[str],
    weight_dtype: str,
    sizes: tuple[int, int],
    num_tokens: int,
) -> Tile | None:
    """Return what the engine's tuned file says; None: it has no such file.

    `sizes` are the local experts and the expert size of one rank. Of the numbers of tokens that
    a file lists, the nearest counts.
    """
    for device in device_names:
        if columns := _files(engine).get(device, {}).get(weight_dtype, {}).get(_key(sizes)):
            tokens = columns[0]
            nearest = min(range(len(tokens)), key=lambda place: abs(tokens[place] - num_tokens))
            return Tile(*(int(column[nearest]) for column in columns[1:]))
    return None


def _key(sizes: tuple[int, int]) -> str:
    return f"{sizes[0]}x{sizes[1]}"


@cache
def _files(engine: str) -> dict[str, Any]:
    text = (data_folder() / "tiles" / f"{engine}.json").read_text(encoding="utf-8")
    tiles: dict[str, Any] = json.loads(text)["tiles"]
    return tiles
