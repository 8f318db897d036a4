"""A power model prepared for some GPUs, so that only the rows have to be put in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from moeprof.cost.contexts import contexts_of
from moeprof.cost.linear_terms import linear_terms, log_features
from moeprof.cost.watt_terms import limit_watts, watt_contexts, watt_terms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.contexts import Contexts
    from moeprof.cost.one_more_row import Steps
    from moeprof.cost.part_model import PartModel
    from moeprof.cost.points import Points


@dataclass(frozen=True, slots=True, eq=False)
class PreparedWatts:
    """What of a power model does not change with the rows of a layer on some GPUs.

    A term is `resting` + `working` / seconds, of features; a context's number is `numbers`, of
    their logarithms, + `per_log_seconds` * log(seconds). All are [num_gpus, num_features, num_terms
    or num_numbers], but the last, [num_numbers]. `contexts` has one for each GPU, whose numbers are
    replaced. `factor`, of the fitted curves, and `most_watts` are [num_gpus].
    """

    part: PartModel
    resting: NDArray[np.float64]
    working: NDArray[np.float64]
    numbers: NDArray[np.float64]
    per_log_seconds: NDArray[np.float64]
    contexts: Contexts
    factor: NDArray[np.float64]
    most_watts: NDArray[np.float64]

    def plain(
        self, steps: Steps, features: NDArray[np.float64], seconds: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the watts of steps at the reference of temperature and clock, [num_steps].

        `features` is [num_steps, num_features], `seconds` [num_steps].
        """
        logs = log_features(steps.occupancy)
        numbers = (logs[:, None, :] @ self.numbers[steps.gpu])[:, 0, :]
        numbers += np.log(seconds)[:, None] * self.per_log_seconds
        contexts = replace(
            self.contexts,
            index=np.arange(len(numbers)),
            numbers=numbers,
            flags=self.contexts.flags[steps.gpu],
            kernel=self.contexts.kernel.take(steps.gpu),
            gpu=self.contexts.gpu.take(steps.gpu),
            sizes=self.contexts.sizes[steps.gpu],
        )
        resting, working = (
            (features[:, None, :] @ each[steps.gpu])[:, 0, :]
            for each in (self.resting, self.working)
        )
        terms = resting + working / seconds[:, None]
        return self.part.uncorrected(contexts, terms) * self.factor[steps.gpu]


def prepare_watts(part: PartModel, gpus: Points) -> PreparedWatts:
    """Return the power model of a layer on GPUs, one point each."""

    def terms_at(seconds: float) -> NDArray[np.float64]:
        return linear_terms(gpus, lambda points: watt_terms(points, np.full(len(points), seconds)))

    def numbers_at(seconds: float, points: Points) -> NDArray[np.float64]:
        spent = np.full(len(points), seconds)
        return watt_contexts(points, contexts_of(points), spent).numbers

    # Each term is a + b / seconds, each number a + b log(seconds).
    one, other = 1e-3, 2e-3
    once, twice = terms_at(one), terms_at(other)
    working = (once - twice) / (1 / one - 1 / other)
    first, second = (numbers_at(seconds, gpus)[:1] for seconds in (one, other))
    per_log_seconds = ((second - first) / np.log(other / one))[0]
    numbers = linear_terms(gpus, lambda points: numbers_at(one, points), log_features)
    numbers[:, 0, :] -= per_log_seconds * np.log(one)
    contexts = contexts_of(gpus)
    spent = np.full(len(gpus), one)
    return PreparedWatts(
        part=part,
        resting=once - working / one,
        working=working,
        numbers=numbers,
        per_log_seconds=per_log_seconds,
        contexts=watt_contexts(gpus, contexts, spent),
        factor=np.exp(part.corrections(gpus, contexts)),
        most_watts=limit_watts(gpus),
    )
