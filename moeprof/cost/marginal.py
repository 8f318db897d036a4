"""What one more row on an expert costs on each GPU, given the rows that are there already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moeprof.cost.bends import bends_of
from moeprof.cost.contexts import contexts_of, kernel_names
from moeprof.cost.linear_terms import features, linear_terms
from moeprof.cost.marginal_watts import PreparedWatts, prepare_watts
from moeprof.cost.one_more_row import steps_of
from moeprof.cost.part_model import joined_parts
from moeprof.cost.terms import term_seconds
from moeprof.cost.thermal import intensity_octaves
from moeprof.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from moeprof.cost.bends import Bends
    from moeprof.cost.model import CostModel
    from moeprof.cost.one_more_row import Steps
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
    """A cost model prepared for some GPUs, so that asking takes less than a millisecond.

    `bends` has a point for each GPU. `latency`, [num_gpus, num_features, num_parts], maps features
    of the rows to parts of seconds (see `linear_terms`). `latency_factor` is of the fitted curves,
    which do not change with single rows; it, the clocks and the kernels' slopes over temperature
    are [num_gpus].
    """

    bends: Bends
    latency: NDArray[np.float64]
    latency_factor: NDArray[np.float64]
    watts: PreparedWatts | None
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
        coefficients = part.costs(contexts, np.ones((len(gpus), len(part.parts))))
        return cls(
            bends=bends_of(gpus),
            latency=linear_terms(gpus, term_seconds) * coefficients[:, None, :] @ member,
            latency_factor=np.exp(part.corrections(gpus, contexts)),
            watts=None if model.watts is None else prepare_watts(model.watts, gpus),
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
            UsageError: the rows are not of as many GPUs as were prepared, or fall below 0.

        """
        num_gpus = len(self.latency_factor)
        if rows_per_expert.ndim != 2 or len(rows_per_expert) != num_gpus:  # noqa: PLR2004 - axes
            raise UsageError(
                f"rows_per_expert must be [{num_gpus}, num_experts], "
                f"got {list(rows_per_expert.shape)}"
            )
        if rows_per_expert.min(initial=0) < 0:
            raise UsageError(f"rows_per_expert must be at least 0, got {rows_per_expert.min()}")
        unknown = np.full(num_gpus, np.nan)
        celsius = unknown if die_celsius is None else np.asarray(die_celsius, dtype=np.float64)
        steps = steps_of(rows_per_expert)
        seconds, joules = self._costs(steps, celsius)
        return Marginal(_growth(steps, seconds), None if joules is None else _growth(steps, joules))

    def _costs(
        self, steps: Steps, celsius: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Return the seconds and joules of each step, [num_steps]."""
        values = features(steps.occupancy, self.bends.take(steps.gpu))
        parts = (values[:, None, :] @ self.latency[steps.gpu])[:, 0, :]
        plain = joined_parts(parts) * self.latency_factor[steps.gpu]
        log_slower, log_hungrier, leaked = self._thermal(steps, celsius)
        seconds = plain * np.exp(log_slower)
        if self.watts is None:
            return seconds, None
        watts = self.watts.plain(steps, values, plain) * np.exp(log_hungrier) + leaked
        return seconds, np.minimum(watts, self.watts.most_watts[steps.gpu]) * seconds

    def _thermal(
        self, steps: Steps, celsius: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the logs of the factors on seconds and watts, and leakage, [num_steps] each."""
        slower, hungrier, leaked = np.zeros((3, len(steps.gpu)))
        borders = np.searchsorted(steps.gpu, np.arange(len(self.thermal) + 1))
        octaves = intensity_octaves(steps.occupancy.num_rows, steps.occupancy.num_active)
        for place, own in enumerate(self.thermal):
            if own is not None:
                mine = slice(borders[place], borders[place + 1])
                slower[mine], hungrier[mine] = own.log_factors(
                    self.kernel_slopes[place],
                    celsius[place],
                    self.clock_hertz[place],
                    octaves[mine],
                )
                leaked[mine] = own.leaked_watts(celsius[place : place + 1])
        return slower, hungrier, leaked


def _growth(steps: Steps, cost: NDArray[np.float64]) -> NDArray[np.float64]:
    grown: NDArray[np.float64] = cost[steps.next] - cost[steps.now][:, None]
    return grown
