"""Fitting one quantity: the network first, then curves through what it leaves over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moeprof.cost.contexts import contexts_of
from moeprof.cost.local import NO_CURVES, fit_curves
from moeprof.cost.network import encoder_of
from moeprof.cost.part_model import PartModel
from moeprof.cost.reach import NOTHING_SEEN, seen_of
from moeprof.cost.training import Task, train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from moeprof.cost.contexts import Contexts
    from moeprof.cost.points import Points
    from moeprof.cost.terms import Term


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Points, the terms of a quantity at them, and its observed cost.

    `contexts` are what the coefficients depend on. `terms` is [num_points, num_terms] and `cost`
    [num_points], in one unit; `weight`,
    [num_points], is 1, or less where a row is doubted.
    """

    points: Points
    contexts: Contexts
    definition: Sequence[Term]
    terms: NDArray[np.float64]
    cost: NDArray[np.float64]
    weight: NDArray[np.float64]

    def take(self, index: NDArray[np.bool_]) -> Problem:
        """Return the problem of some of the points, by a mask [num_points]."""
        return Problem(
            self.points.take(index),
            self.contexts.take(index),
            self.definition,
            self.terms[index],
            self.cost[index],
            self.weight[index],
        )


def fit_part(problem: Problem, *, num_steps: int, seed: int) -> PartModel:
    """Return the fitted model of a quantity, as yet without intervals."""
    contexts = problem.contexts
    encoder = encoder_of(contexts)
    parts = np.array([int(term.part) for term in problem.definition])
    # In units of the typical cost: single precision then has digits to spare.
    unit = float(np.exp(np.median(np.log(problem.cost))))
    task = Task(
        inputs=encoder.inputs(contexts),
        num_names=encoder.num_names,
        index=contexts.index,
        terms=problem.terms / unit,
        log_cost=np.log(problem.cost / unit),
        weight=problem.weight,
        parts=parts,
        log_prior=np.log([term.prior for term in problem.definition]),
    )
    network = train(task, num_steps=num_steps, seed=seed)
    return refit_curves(problem, PartModel(parts, encoder, network, NO_CURVES, NOTHING_SEEN, ()))


def refit_curves(problem: Problem, part: PartModel) -> PartModel:
    """Return the model with the same network and curves through these points alone."""
    contexts = contexts_of(problem.points)
    residual = np.log(problem.cost / part.uncorrected(problem.contexts, problem.terms))
    curves = fit_curves(problem.points, contexts, residual, problem.weight)
    seen = seen_of(problem.points, contexts)
    return PartModel(part.parts, part.encoder, part.network, curves, seen, part.bands)
