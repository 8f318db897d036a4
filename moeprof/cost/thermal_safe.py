"""The largest batch at which a GPU stays under a die temperature for good."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from moeprof.errors import FitError, UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from moeprof.cost.model import CostModel
    from moeprof.cost.points import Points


def thermal_safe_batch_size(
    model: CostModel,
    ladder: Points,
    *,
    coolant_celsius: ArrayLike,
    limit_celsius: ArrayLike,
    kelvin_per_watt: ArrayLike,
    cautious: bool = True,
) -> NDArray[np.int64]:
    """Return the largest batch size whose steady die temperature stays at or under a limit.

    `ladder` is one layer on one rank at every batch size that is asked about, [num_points], in any
    order. `coolant_celsius` (air or water), `limit_celsius` and `kelvin_per_watt`, the thermal
    resistance from die to coolant, broadcast to [num_places]; so does what is returned. It is 0
    where not even the smallest batch is safe. All smaller batches of the ladder are safe as well.
    `cautious` takes the upper end of the power's 90 % interval, else the prediction itself.

    Steady state is T = coolant + resistance * power(T) (a lumped thermal resistance: Incropera and
    others, Fundamentals of Heat and Mass Transfer, section 3.1). Power rises with T, by leakage; so
    T stays at or under the limit exactly where coolant + resistance * power(limit) does.

    Raises:
        FitError: the model knows nothing of power.
        UsageError: the ladder is empty, or a resistance is not above 0.

    """
    coolant, limit, resistance = np.broadcast_arrays(
        *(np.asarray(each, dtype=np.float64) for each in (
            coolant_celsius, limit_celsius, kelvin_per_watt
        ))
    )  # fmt: skip
    if not len(ladder):
        raise UsageError("a thermally safe batch size needs at least one batch size to choose from")
    if not (resistance > 0).all():
        raise UsageError(
            f"kelvin_per_watt must be above 0, got {resistance.min():g}",
            hint="It is (die - coolant) / power of a card that has run alike for minutes.",
        )
    order = np.argsort(ladder.batch_size, kind="stable")
    rungs = ladder.take(order)
    safe = np.zeros(coolant.shape, dtype=np.int64)
    for celsius in np.unique(limit):
        watts = _watts_at(model, rungs, float(celsius), cautious=cautious)
        places = limit == celsius
        steady = coolant[places, None] + resistance[places, None] * np.maximum.accumulate(watts)
        num_safe = (steady <= celsius).sum(axis=1)
        safe[places] = np.concatenate([[0], rungs.batch_size])[num_safe]
    return safe


def _watts_at(
    model: CostModel, points: Points, celsius: float, *, cautious: bool
) -> NDArray[np.float64]:
    found = model.average_watts(replace(points, die_celsius=np.full(len(points), celsius)))
    if found is None:
        raise FitError(
            "the model was fitted to rows without power, so it cannot tell how hot a step is",
            hint="Fit it to a dataset that has average_watts.",
        )
    return found.high if cautious else found.value
