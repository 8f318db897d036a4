"""What one more row on an expert costs on each GPU, given the rows that are there already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moeprof.cost.contexts import contexts_of, kernel_names
from moeprof.cost.linear_terms import RowFeatures, features_of, linear_terms
from moeprof.cost.part_model import joined_parts
from moeprof.cost.terms import term_seconds
from moeprof.cost.thermal import intensity_octaves
from moeprof.cost.watt_terms import limit_watts, watt_terms
from moeprof.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from moeprof.cost.model import CostModel
    from moeprof.cost.part_model import PartModel
    from moeprof.cost.points import Points
    from moeprof.cost.thermal import GPUThermal


@dataclass(frozen=True, slots=True, eq=False)
class Marginal:
    """What a step grows by with one more row on each expert of each GPU.

    Both are [num_gpus, num_experts]; `joules` is None where the model knows nothing of power. On an
    expert without rows the row is its first, and its weights have to be read.
    """

    seconds: NDArray[np.float64]
    joules: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True, eq=False)
class MarginalTable:
    """A cost model prepared for some GPUs, so that asking takes microseconds.

    Terms are linear in features of the rows (see `linear_terms`). `latency` maps those to parts of
    seconds, [num_gpus, num_features, num_parts]; `work_joules`, [num_gpus, num_features], to joules
    of work, and `rest_watts`, [num_gpus], is what is drawn whatever the rows. Factors are of the
    fitted curves, which do not change with single rows; all conditions are [num_gpus].
    """

    latency: NDArray[np.float64]
    latency_factor: NDArray[np.float64]
    work_joules: NDArray[np.float64] | None
    rest_watts: NDArray[np.float64] | None
    watts_factor: NDArray[np.float64] | None
    most_watts: NDArray[np.float64]
    clock_hertz: NDArray[np.float64]
    kernel_slopes: NDArray[np.float64]
    thermal: tuple[GPUThermal | None, ...]

    @classmethod
    def prepare(cls, model: CostModel, gpus: Points) -> MarginalTable:
        """Return the table of a layer on GPUs, one point each: kernel, sizes, batch, conditions.

        The batch size stays what it is there: one more row is a token's other choice of an expert.
        """
        contexts = contexts_of(gpus)
        by_gpu = {each.gpu: each for each in (model.thermal.gpus if model.thermal else ())}
        thermal = tuple(by_gpu.get(name) for name in gpus.gpu.texts())
        slopes = [
            0.0 if own is None else own.slope_of(name)
            for own, name in zip(thermal, kernel_names(gpus), strict=True)
        ]
        part = model.latency
        member = (part.parts[:, None] == np.arange(int(part.parts.max()) + 1)).astype(np.float64)
        latency = linear_terms(gpus, term_seconds) * _coefficients(part, gpus)[:, None, :]
        work = rest = watts_factor = None
        if model.watts is not None:
            coefficients = _coefficients(model.watts, gpus)
            once, twice = (_watt_terms(gpus, seconds) for seconds in (1.0, 2.0))
            # Each term is a + b / seconds.
            work = (2 * (once - twice) * coefficients[:, None, :]).sum(axis=2)
            rest = ((2 * twice - once) * coefficients[:, None, :]).sum(axis=2)[:, 0]
            watts_factor = np.exp(model.watts.corrections(gpus, contexts))
        return cls(
            latency=latency @ member,
            latency_factor=np.exp(part.corrections(gpus, contexts)),
            work_joules=work,
            rest_watts=rest,
            watts_factor=watts_factor,
            most_watts=limit_watts(gpus),
            clock_hertz=gpus.sm_clock_hertz,
            kernel_slopes=np.array(slopes),
            thermal=thermal,
        )

    def at(
        self, rows_per_expert: NDArray[np.int64], die_celsius: ArrayLike | None = None
    ) -> Marginal:
        """Return what one more row costs; `rows_per_expert` is [num_gpus, num_experts].

        `die_celsius`, [num_gpus], is NaN or None where not known.

        Raises:
            UsageError: the rows are not of as many GPUs as were prepared.

        """
        num_gpus = len(self.latency_factor)
        if rows_per_expert.ndim != 2 or len(rows_per_expert) != num_gpus:  # noqa: PLR2004 - axes
            raise UsageError(
                f"rows_per_expert must be [{num_gpus}, num_experts], "
                f"got {list(rows_per_expert.shape)}"
            )
        unknown = np.full(num_gpus, np.nan)
        celsius = unknown if die_celsius is None else np.asarray(die_celsius, dtype=np.float64)
        # The step as it is stands in the first column, with one more row in all others.
        features = features_of(rows_per_expert)
        seconds, joules = self._costs(features, celsius)
        return Marginal(
            seconds[:, 1:] - seconds[:, :1],
            None if joules is None else joules[:, 1:] - joules[:, :1],
        )

    def _costs(
        self, features: RowFeatures, celsius: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        parts = features.values @ self.latency
        plain = joined_parts(parts.reshape(-1, parts.shape[-1])).reshape(parts.shape[:2])
        plain = plain * self.latency_factor[:, None]
        log_slower, log_watts, leaked = self._thermal(features, celsius)
        seconds = plain * np.exp(log_slower)
        if self.work_joules is None or self.rest_watts is None or self.watts_factor is None:
            return seconds, None
        work = (features.values @ self.work_joules[:, :, None])[:, :, 0]
        watts = (self.rest_watts[:, None] + work / plain) * self.watts_factor[:, None]
        watts = watts * np.exp(log_watts) + leaked
        return seconds, np.minimum(watts, self.most_watts[:, None]) * seconds

    def _thermal(
        self, features: RowFeatures, celsius: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the logs of the factors on seconds and watts, and leakage; each broadcasts."""
        shape = features.num_rows.shape
        log_slower, log_watts = np.zeros(shape), np.zeros(shape)
        leaked = np.zeros((shape[0], 1))
        for place, own in enumerate(self.thermal):
            if own is None:
                continue
            octaves = np.zeros(1)
            if own.clock is not None:
                octaves = intensity_octaves(features.num_rows[place], features.num_active[place])
            conditions = (celsius[place], self.clock_hertz[place], octaves)
            slope = self.kernel_slopes[place]
            log_slower[place], log_watts[place] = own.log_factors(slope, *conditions)
            leaked[place] = own.leaked_watts(celsius[place : place + 1])
        return log_slower, log_watts, leaked


def _watt_terms(gpus: Points, seconds: float) -> NDArray[np.float64]:
    return linear_terms(gpus, lambda points: watt_terms(points, np.full(len(points), seconds)))


def _coefficients(part: PartModel, points: Points) -> NDArray[np.float64]:
    """Return each term's coefficient at each point, [num_points, num_terms]."""
    return part.costs(contexts_of(points), np.ones((len(points), len(part.parts))))
