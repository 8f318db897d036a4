"""What a peer's method is: something that is fitted to points, then predicts others."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from moeprof.cost.points import Points


class Quantity(StrEnum):
    """What is predicted: the latency of one launch, or the average power while it runs."""

    LATENCY_SECONDS = "latency_seconds"
    AVERAGE_WATTS = "average_watts"


class Fitted(Protocol):
    """A method after its fit."""

    def predict(self, points: Points) -> NDArray[np.float64]:
        """Return the quantity that it was fitted to, [num_points], finite and above 0.

        Raises:
            FitError: the method cannot say anything about one of the points.

        """
        ...


class Peer(Protocol):
    """A method of predicting what points cost; its `name` is that of its module."""

    name: ClassVar[str]
    quantities: ClassVar[frozenset[Quantity]]

    def fit(
        self,
        points: Points,
        observed: NDArray[np.float64],
        quantity: Quantity = Quantity.LATENCY_SECONDS,
    ) -> Fitted:
        """Return the method fitted to observations, [num_points], finite and above 0.

        `quantity` is one of `quantities`.

        Raises:
            FitError: there is no point, or the method can say nothing about one.

        """
        ...
