"""What every peer asks of the rows that it is fitted to or predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moeprof.cost.demand import datasheet_bytes_per_second
from moeprof.errors import FitError
from moeprof.hardware.catalogue import gpu_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.points import Points


def check_rows(points: Points, observed: NDArray[np.float64]) -> None:
    """Return if there are rows to fit to and all are finite and above 0.

    Raises:
        FitError: there are none, or one is not.

    """
    assert len(points) == len(observed)
    if not len(points):
        raise FitError("there must be at least 1 row to fit to, got none")
    faulty = ~(np.isfinite(observed) & (observed > 0))
    if faulty.any():
        row = int(np.argmax(faulty))
        raise FitError(
            f"row {row}: what is fitted to must be finite and above 0, got {observed[row]}",
            hint="Fit to the rows that have it.",
        )


def check_datasheets(points: Points) -> None:
    """Return if the GPU of every point is in the catalogue.

    Raises:
        FitError: one is not.

    """
    unknown = np.isnan(datasheet_bytes_per_second(points))
    if unknown.any():
        name = points.gpu.names[points.gpu.codes[int(np.argmax(unknown))]]
        raise FitError(
            f"GPU {name!r}: is not in the catalogue, so it has no datasheet",
            hint=f"There is {', '.join(gpu_names())}.",
        )
