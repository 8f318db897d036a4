"""The blocks of a sweep, as its rows show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moeprof.record import Role

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


def block_codes(table: pa.Table) -> NDArray[np.int64]:
    """Return a number for the block of each row of `measurements`, counted from 0 over all runs.

    A block is what was measured one after the other at one held temperature; it begins and ends
    with a sentinel, so that two in a row are a border too. Without sentinels, neighbouring blocks
    at one temperature count as one.
    """
    names = ("run_id", "order_index", "hold_celsius", "role")
    steps = sorted(set(zip(*(table[name].to_pylist() for name in names), strict=True)), key=_place)
    codes: dict[tuple[str, int], int] = {}
    code = -1
    before: tuple[str, int, float | None, str] | None = None
    for step in steps:
        run_id, order_index, hold_celsius, role = step
        goes_on = (
            before is not None
            and (before[0], before[2]) == (run_id, hold_celsius)
            and not (before[3] == role == Role.SENTINEL.value)
        )
        code += not goes_on
        codes[run_id, order_index] = code
        before = step
    owners = zip(table["run_id"].to_pylist(), table["order_index"].to_pylist(), strict=True)
    return np.array([codes[owner] for owner in owners], dtype=np.int64)


def _place(step: tuple[str, int, float | None, str]) -> tuple[str, int]:
    return step[0], step[1]
