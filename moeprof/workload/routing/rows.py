"""Row counts of a batch whose tokens have been given their experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rows_per_expert(ids: NDArray[np.int64], num_experts: int) -> NDArray[np.int64]:
    """Return how many rows each expert gets, [num_experts], from `ids` of any shape."""
    return np.bincount(ids.ravel(), minlength=num_experts)
