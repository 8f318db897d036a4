"""Columns of a table of points as arrays, refused by row where a value is impossible."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from moeprof.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def reals(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Return a column as floats, [num_rows]; null, or no column at all, is NaN.

    Raises:
        DatasetError: the column does not hold numbers.

    """
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    try:
        return np.asarray(table[name].cast(pa.float64()).to_numpy(), dtype=np.float64)
    except pa.ArrowException as error:
        raise DatasetError(f"column {name}: must hold numbers: {error}") from error


def counts(table: pa.Table, name: str, *, absent: int | None = None) -> NDArray[np.int64]:
    """Return a column of whole numbers of at least 1, [num_rows]; null is `absent`.

    Raises:
        DatasetError: a value is no such number, or is missing where `absent` is None.

    """
    if name not in table.column_names and absent is None:
        raise DatasetError(
            f"column {name}: is missing",
            hint=f"The table has {', '.join(table.column_names) or 'no column'}.",
        )
    values = reals(table, name)
    if absent is not None:
        values = np.where(np.isnan(values), absent, values)
    first_row(
        ~(values >= 1) | (values != np.rint(values)) | (values > np.iinfo(np.int32).max),
        f"{name} must be a whole number of at least 1",
        values,
    )
    return values.astype(np.int64)


def first_row(
    faulty: NDArray[np.bool_], right: str, found: Sequence[object] | NDArray[np.generic]
) -> None:
    """Return if no row is faulty; else name the first: where, what is `right`, what was `found`.

    Raises:
        DatasetError: a row is faulty.

    """
    if not faulty.any():
        return
    row = int(np.argmax(faulty))
    raise DatasetError(
        f"row {row}: {right}, got {found[row]}",
        hint=f"{int(faulty.sum())} of {len(faulty)} rows are like that; correct or remove them.",
    )
