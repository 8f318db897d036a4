"""A roofline whose launch time and efficiencies are fitted per kernel, GPU and number formats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from scipy.optimize import nnls

from moeprof.cost.demand import datasheet_bytes_per_second, datasheet_flops_per_second, demand_of
from moeprof.cost.peers.check import check_datasheets, check_rows
from moeprof.cost.peers.protocol import Quantity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from moeprof.cost.points import Points

_NUM_ROUNDS: Final = 15  # the sides of the roofline no longer change after about ten
_LEAST_ERROR: Final = 1e-3  # below it, an absolute error is treated as a squared one
_LEAST_ROWS: Final = 8  # twice the number of constants; below it, rows share the overall fit
_LEAST_SECONDS: Final = 1e-9  # no launch is shorter, and a prediction has to be above 0


@dataclass(frozen=True, slots=True, eq=False)
class _Constants:
    """Launch time, then multiples of the datasheet's times: weights, activations, FLOPs."""

    values: NDArray[np.float64]

    def seconds(self, terms: NDArray[np.float64]) -> NDArray[np.float64]:
        launch, weights, activations, compute = (terms * self.values).T
        found: NDArray[np.float64] = launch + np.maximum(weights + activations, compute)
        return np.maximum(found, _LEAST_SECONDS)


@dataclass(frozen=True, slots=True, eq=False)
class FittedRoofline:
    """Constants by (kernel, GPU, weight and activation format), and overall for unseen ones."""

    by_group: Mapping[tuple[str, ...], _Constants]
    overall: _Constants

    def predict(self, points: Points) -> NDArray[np.float64]:
        """Return seconds, [num_points]; see `Fitted.predict`."""
        check_datasheets(points)
        terms = _terms(points)
        found = np.empty(len(points))
        for group, rows in _groups(points):
            found[rows] = self.by_group.get(group, self.overall).seconds(terms[rows])
        return found


@dataclass(frozen=True, slots=True)
class RooflineFitted:
    """launch + max(weights / bandwidth + activations / bandwidth', FLOPs / peak')."""

    name: ClassVar[str] = "roofline_fitted"
    quantities: ClassVar[frozenset[Quantity]] = frozenset({Quantity.LATENCY_SECONDS})

    def fit(
        self,
        points: Points,
        observed: NDArray[np.float64],
        quantity: Quantity = Quantity.LATENCY_SECONDS,
    ) -> FittedRoofline:
        """Fit non-negative constants to the least absolute relative errors; see `Peer.fit`."""
        assert quantity in self.quantities
        check_rows(points, observed)
        check_datasheets(points)
        terms = _terms(points)
        by_group = {
            group: _fit(terms[rows], observed[rows])
            for group, rows in _groups(points)
            if len(rows) >= _LEAST_ROWS
        }
        return FittedRoofline(by_group, _fit(terms, observed))


def _terms(points: Points) -> NDArray[np.float64]:
    """Return 1 and the datasheet's seconds for weights, activations, FLOPs, [num_points, 4]."""
    demand = demand_of(points)
    bandwidth = datasheet_bytes_per_second(points)
    return np.column_stack(
        [
            np.ones(len(points)),
            demand.weight_bytes / bandwidth,
            demand.activation_bytes / bandwidth,
            demand.flops / datasheet_flops_per_second(points),
        ]
    )


def _groups(points: Points) -> list[tuple[tuple[str, ...], NDArray[np.int64]]]:
    labels = (points.kernel, points.gpu, points.weight_dtype, points.activation_dtype)
    codes = np.stack([each.codes for each in labels], axis=-1)
    distinct, which = np.unique(codes, axis=0, return_inverse=True)
    return [
        (
            tuple(each.names[code] for each, code in zip(labels, row, strict=True)),
            np.flatnonzero(which.ravel() == place),
        )
        for place, row in enumerate(distinct.tolist())
    ]


def _fit(terms: NDArray[np.float64], observed: NDArray[np.float64]) -> _Constants:
    """Return the constants, by non-negative least squares reweighted towards absolute errors.

    The roofline's larger side is chosen anew in each round. Reweighting: Lawson's algorithm, as
    in Björck, "Numerical Methods for Least Squares Problems", SIAM 1996, section 4.5.
    """
    relative = terms / observed[:, np.newaxis]
    computing = terms[:, 3] > terms[:, 1] + terms[:, 2]
    weights = np.ones(len(observed))
    best, least = _Constants(np.ones(terms.shape[1])), np.inf
    for _ in range(_NUM_ROUNDS):
        sides = np.column_stack([np.ones_like(observed), ~computing, ~computing, computing])
        constants = _weighted(relative * sides, weights)
        # A side without any row has no constant of its own; the datasheet's stands.
        missing = (sides > 0).sum(axis=0) == 0
        found = _Constants(np.where(missing, 1.0, constants))
        errors = np.abs(found.seconds(terms) / observed - 1)
        if errors.mean() < least:
            best, least = found, float(errors.mean())
        weights = 1 / np.sqrt(np.maximum(errors, _LEAST_ERROR))
        scaled = terms * found.values
        computing = scaled[:, 3] > scaled[:, 1] + scaled[:, 2]
    return best


def _weighted(matrix: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    # Columns of like size, and the normal equations: four unknowns need no tall matrix.
    scale = np.sqrt((matrix**2).mean(axis=0))
    scale = np.where(scale > 0, scale, 1.0)
    weighted = matrix / scale * weights[:, np.newaxis]
    gram = weighted.T @ weighted
    root = np.linalg.cholesky(gram + 1e-12 * np.trace(gram) * np.eye(len(gram)))
    solution, _ = nnls(root.T, np.linalg.solve(root, weighted.T @ weights))
    found: NDArray[np.float64] = solution / scale
    return found
