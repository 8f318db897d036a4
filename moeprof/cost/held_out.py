"""Predictions of rows by a method that had not seen them, and how far off they are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from moeprof.cost.holdout import outside_range
from moeprof.cost.score import regimes, score_by_regime
from moeprof.errors import FitError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from moeprof.cost.held_rows import HeldRows
    from moeprof.cost.holdout import Split
    from moeprof.cost.model import CostModel
    from moeprof.cost.peers import Peer
    from moeprof.cost.points import Observed, Points
    from moeprof.cost.score import Score


class Judged(StrEnum):
    """What predictions are judged on: seconds, watts, and joules of one launch."""

    LATENCY = "latency"
    POWER = "power"
    ENERGY = "energy"


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Points, what they cost, and how far each is trusted, all [num_points].

    `weight` is 1, or less where a row's latency is doubted (see `suspect.fit_weights`), and
    `watt_weight` the same of its power; None: as its latency. `held` says which
    rows were measured together; None: not known.
    """

    points: Points
    observed: Observed
    weight: NDArray[np.float64]
    held: HeldRows | None = None
    watt_weight: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.points)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Rows:
        """Return some of the rows, by their indices or by a mask [num_points]."""
        held = None if self.held is None else self.held.take(index)
        watts = None if self.watt_weight is None else self.watt_weight[index]
        return Rows(
            self.points.take(index), self.observed.take(index), self.weight[index], held, watts
        )


# Value, low and high, [num_points] each; NaN where a method has no interval.
Bounded: TypeAlias = "tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]"
Predictions: TypeAlias = "Mapping[Judged, Bounded]"
Fit: TypeAlias = "Callable[[Rows], CostModel]"
Method: TypeAlias = "Callable[[Rows, Points], Predictions]"
OnStep: TypeAlias = "Callable[[str, str, int, int], None]"  # method, split, steps done, all steps


class Steps:
    """Counts the fits that are to be made, and tells of each before it begins."""

    def __init__(self, on_step: OnStep, num_steps: int) -> None:
        self._on_step = on_step
        self._num_steps = num_steps
        self._num_begun = 0

    def begin(self, method: str, split: str) -> None:
        """Tell that a method is fitted to a split next."""
        self._on_step(method, split, self._num_begun, self._num_steps)
        self._num_begun += 1


def model_method(fit: Fit) -> Method:
    """Return moeprof's model as a method: fit to rows, then predict points with intervals."""

    def predict(rows: Rows, asked: Points) -> Predictions:
        model = fit(rows)
        found = {
            Judged.LATENCY: model.seconds(asked),
            Judged.POWER: model.average_watts(asked),
            Judged.ENERGY: model.joules(asked),
        }
        return {
            judged: (each.value, each.low, each.high)
            for judged, each in found.items()
            if each is not None
        }

    return predict


def peer_method(peer: Peer) -> Method:
    """Return a peer as a method; its energy is the product of its own seconds and watts."""
    from moeprof.cost.peers import Quantity  # noqa: PLC0415 - LightGBM takes a while to load

    def fitted(rows: Rows, quantity: Quantity, asked: Points) -> NDArray[np.float64]:
        observed = getattr(rows.observed, quantity.value)
        index = np.flatnonzero(np.isfinite(observed) & (observed > 0))
        return peer.fit(rows.points.take(index), observed[index], quantity).predict(asked)

    def predict(rows: Rows, asked: Points) -> Predictions:
        nothing = _absent(len(asked))
        seconds = fitted(rows, Quantity.LATENCY_SECONDS, asked)
        found = {Judged.LATENCY: (seconds, nothing, nothing)}
        has_watts = np.isfinite(rows.observed.average_watts).any()
        if has_watts and Quantity.AVERAGE_WATTS in peer.quantities:
            watts = fitted(rows, Quantity.AVERAGE_WATTS, asked)
            found[Judged.POWER] = (watts, nothing, nothing)
            found[Judged.ENERGY] = (watts * seconds, nothing, nothing)
        return found

    return predict


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """What a method predicted for the rows of all splits.

    `test` and `outside` are masks [num_rows] of the rows that were predicted, and of those outside
    what their fit spanned; predictions are [num_rows], NaN elsewhere.
    """

    test: NDArray[np.bool_]
    outside: NDArray[np.bool_]
    predicted: Predictions

    def scores(self, rows: Rows) -> dict[Judged, dict[str, Score]]:
        """Return the errors against what was observed, by quantity and regime."""
        rows = rows.take(self.test)
        masks = regimes(rows.points, self.outside[self.test])
        found = {}
        for judged, bounded in self.predicted.items():
            value, low, high = (each[self.test] for each in bounded)
            bounds = (None, None) if np.isnan(low).all() else (low, high)
            found[judged] = score_by_regime(masks, _observed(rows, judged), value, *bounds)
        return {judged: scores for judged, scores in found.items() if scores}


def held_out(
    method: Method, rows: Rows, parts: Sequence[Split], on_split: Callable[[str], None]
) -> HeldOut:
    """Return what a method predicts for each split's rows after its fit to the others.

    `on_split` is called with the name of each split before its fit.

    Raises:
        FitError: a split leaves the method too little to be fitted to.

    """
    num = len(rows)
    test, outside = np.zeros(num, dtype=bool), np.zeros(num, dtype=bool)
    predicted: dict[Judged, Bounded] = {}
    for split in parts:
        on_split(split.name)
        kept, asked = rows.take(split.train), rows.points.take(split.test)
        try:
            found = method(kept, asked)
        except FitError as error:
            raise FitError(f"held out {split.name}: {error.message}", hint=error.hint) from error
        test |= split.test
        outside[split.test] = outside_range(kept.points, asked)
        for judged, bounded in found.items():
            wholes = predicted.setdefault(judged, (_absent(num), _absent(num), _absent(num)))
            for whole, part in zip(wholes, bounded, strict=True):
                whole[split.test] = part
    return HeldOut(test, outside, predicted)


def scores_document(
    scores: Mapping[Judged, Mapping[str, Score]],
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return scores by quantity and regime as plain JSON values; errors are fractions."""
    return {
        judged.value: {regime: each.to_json() for regime, each in by_regime.items()}
        for judged, by_regime in scores.items()
    }


def _absent(num: int) -> NDArray[np.float64]:
    return np.full(num, np.nan)


def _observed(rows: Rows, judged: Judged) -> NDArray[np.float64]:
    match judged:
        case Judged.LATENCY:
            return rows.observed.latency_seconds
        case Judged.POWER:
            return rows.observed.average_watts
        case Judged.ENERGY:
            return rows.observed.energy_joules
