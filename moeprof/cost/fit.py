"""The cost model fitted to observed points, with intervals that were rehearsed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof import __version__
from moeprof.cost.calibration import rehearsals
from moeprof.cost.contexts import contexts_of
from moeprof.cost.fit_part import Problem, fit_part, refit_curves
from moeprof.cost.intervals import DECODE_TOKENS, Errors, bands_of
from moeprof.cost.model import CostModel
from moeprof.cost.provenance import Provenance
from moeprof.cost.terms import TERMS, term_seconds
from moeprof.cost.thermal import at_reference, not_identified
from moeprof.cost.thermal_fit import fit_thermal
from moeprof.cost.watt_terms import WATT_TERMS, watt_contexts, watt_terms
from moeprof.errors import FitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from moeprof.cost.calibration import LeftOut
    from moeprof.cost.held_rows import HeldRows
    from moeprof.cost.part_model import PartModel
    from moeprof.cost.points import Observed, Points

_FEWEST_ROWS: Final = 12
_FEWEST_BATCH_SIZES: Final = 3


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How long to fit; the defaults were chosen once, for all tables alike.

    `num_steps` of training for the model itself, `num_rehearsal_steps` for each of those that are
    fitted only to learn its intervals.
    """

    num_steps: int = 800
    num_rehearsal_steps: int = 300
    seed: int = 0


def fit_cost(
    points: Points,
    observed: Observed,
    weight: NDArray[np.float64] | None = None,
    settings: FitSettings | None = None,
    held: HeldRows | None = None,
    *,
    watt_weight: NDArray[np.float64] | None = None,
) -> CostModel:
    """Return the cost model of observed points.

    Every point needs a latency above 0; power is fitted where enough points have it. `weight`,
    [num_points], is 1, or less where a row's latency is doubted, and `watt_weight` the same of its
    power; without it, `weight` counts for both. `held` says which rows were measured
    together (see `held_rows_of_table`), for the intervals of what temperature does.

    Raises:
        FitError: there are too few points or batch sizes; the message says what is missing.

    """
    _check_enough(points)
    chosen = settings or FitSettings()
    trust = np.ones(len(points)) if weight is None else weight
    thermal = fit_thermal(points, observed, held)
    observed = at_reference(points, observed, thermal)
    contexts = contexts_of(points)
    seconds = Problem(
        points, contexts, TERMS, term_seconds(points), observed.latency_seconds, trust
    )
    watts = _watt_problem(points, observed, trust if watt_weight is None else watt_weight)
    latency = fit_part(seconds, num_steps=chosen.num_steps, seed=chosen.seed)
    power = (
        None if watts is None else fit_part(watts[1], num_steps=chosen.num_steps, seed=chosen.seed)
    )
    errors = _rehearse(seconds, watts, latency, power, chosen)
    return CostModel(
        latency=replace(latency, bands=bands_of(errors.seconds)),
        watts=None if power is None else replace(power, bands=bands_of(errors.watts)),
        energy_bands=bands_of(errors.joules),
        thermal=thermal,
        provenance=Provenance(
            __version__, (), (), len(points), chosen.seed, not_identified(thermal), {}
        ),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Rehearsed:
    seconds: list[Errors]
    watts: list[Errors]
    joules: list[Errors]


def _rehearse(
    seconds: Problem,
    watts: tuple[NDArray[np.bool_], Problem] | None,
    latency: PartModel,
    power: PartModel | None,
    settings: FitSettings,
) -> _Rehearsed:
    """Leave rows out in turn and keep how far off the predictions for them were."""
    points = seconds.points
    found = _Rehearsed([], [], [])
    for out in rehearsals(points, contexts_of(points), settings.seed):
        predicted, errors = _tried(seconds, latency, out, settings)
        found.seconds.append(errors)
        if watts is None or power is None:
            continue
        has, problem = watts
        test = out.test[has]
        if not test.any() or test.all():
            continue
        # The energy of a rehearsal rests on its own seconds, not on those that were observed.
        spent = np.where(out.test, predicted, seconds.cost)[has]
        other = _at_seconds(problem, spent)
        rehearsed = replace(out, test=test)
        predicted_watts, errors = _tried(problem, power, rehearsed, settings, judged=other)
        found.watts.append(errors)
        observed = problem.cost * seconds.cost[has]
        error = np.log(observed[test] / (predicted_watts * spent)[test])
        found.joules.append(replace(errors, error=error))
    return found


def _tried(
    problem: Problem,
    part: PartModel,
    out: LeftOut,
    settings: FitSettings,
    *,
    judged: Problem | None = None,
) -> tuple[NDArray[np.float64], Errors]:
    """Return predictions at all points, and errors at those left out, of a model without them."""
    kept = problem.take(~out.test)
    if out.refit:
        model = fit_part(kept, num_steps=settings.num_rehearsal_steps, seed=settings.seed)
    else:
        model = refit_curves(kept, part)
    asked = (problem if judged is None else judged).take(out.test)
    contexts = contexts_of(asked.points)
    value = model.uncorrected(asked.contexts, asked.terms)
    value = value * np.exp(model.corrections(asked.points, contexts))
    predicted = np.array(problem.cost)
    predicted[out.test] = value
    errors = Errors(
        model.reaches(asked.points, contexts),
        asked.points.batch_size <= DECODE_TOKENS,
        np.log(asked.cost / value),
    )
    return predicted, errors


def _watt_problem(
    points: Points, observed: Observed, weight: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], Problem] | None:
    """Return which rows have power, as a mask, and their problem; None: too few have it."""
    has = np.isfinite(observed.average_watts) & (observed.average_watts > 0)
    some = points.take(has)
    if not _enough(some):
        return None
    spent, watts = observed.latency_seconds[has], observed.average_watts[has]
    nothing = np.zeros((len(some), 0))
    plain = Problem(some, contexts_of(some), WATT_TERMS, nothing, watts, weight[has])
    return has, _at_seconds(plain, spent)


def _at_seconds(problem: Problem, seconds: NDArray[np.float64]) -> Problem:
    """Return the problem of power with each step's energy spread over other seconds."""
    points = problem.points
    return replace(
        problem,
        contexts=watt_contexts(points, contexts_of(points), seconds),
        terms=watt_terms(points, seconds),
    )


def _enough(points: Points) -> bool:
    return len(points) >= _FEWEST_ROWS and len(np.unique(points.batch_size)) >= _FEWEST_BATCH_SIZES


def _check_enough(points: Points) -> None:
    if _enough(points):
        return
    sizes: Sequence[int] = np.unique(points.batch_size).tolist()
    raise FitError(
        f"a cost model needs at least {_FEWEST_ROWS} measured points at {_FEWEST_BATCH_SIZES} or "
        f"more batch sizes, got {len(points)} at {len(sizes)} "
        f"({', '.join(map(str, sizes)) or 'none'})",
        hint="Measure more batch sizes, or adapt a fitted model to these points with --from.",
    )
