"""A fitted model prepared for one layer on some GPUs, so that rows are priced by the thousand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.bends import bends_of
from moeprof.cost.contexts import contexts_of, kernel_names
from moeprof.cost.linear_terms import features, linear_terms, log_features
from moeprof.cost.marginal_watts import prepare_watts
from moeprof.cost.network import Encoder, Network
from moeprof.cost.part_model import joined_parts
from moeprof.cost.terms import term_seconds
from moeprof.errors import UsageError
from moeprof.workload.occupancy import TILE_ROWS, Occupancy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.bends import Bends
    from moeprof.cost.contexts import Contexts
    from moeprof.cost.marginal_watts import PreparedWatts
    from moeprof.cost.model import CostModel
    from moeprof.cost.part_model import PartModel
    from moeprof.cost.points import Points
    from moeprof.cost.thermal import GPUThermal

_HEIGHTS: Final = np.array(TILE_ROWS, dtype=np.int64)[:, None, None]
_SHIFTS: Final = np.array([height.bit_length() - 1 for height in TILE_ROWS])[:, None, None]
_LEAST_FRACTION: Final = 0.01  # of the power limit, as `CostModel` keeps it


@dataclass(frozen=True, slots=True, eq=False)
class _Repeated:
    """What belongs to each of some steps, [num_steps], whose GPUs follow one another in a circle.

    `contexts` are those of power, None where the model knows nothing of it.
    """

    gpu: NDArray[np.int64]
    bends: Bends
    contexts: Contexts | None


@dataclass(frozen=True, slots=True, eq=False)
class PreparedCosts:
    """A cost model at its reference of temperature and clock, of which only rows are open.

    `bends` has a point for each GPU. `latency`, [num_gpus, num_features, num_parts], maps features
    of rows to parts of seconds, `latency_factor`, [num_gpus], is of the fitted curves. `thermal`
    is what the model knows of the GPU's answer to its temperature, and `kernel_slope_per_celsius`
    of the kernel's log seconds'; None and 0 where it knows nothing.
    """

    bends: Bends
    latency: NDArray[np.float64]
    latency_factor: NDArray[np.float64]
    watts: PreparedWatts | None
    thermal: GPUThermal | None
    kernel_slope_per_celsius: float
    _by_num_steps: dict[int, _Repeated] = field(default_factory=dict)

    @classmethod
    def prepare(cls, model: CostModel, gpus: Points) -> PreparedCosts:
        """Return the costs of a layer on GPUs, one point each, or one point for all of them.

        Of the points' occupancies and temperatures nothing is kept.

        Raises:
            UsageError: the points are of more than one kind of GPU or kernel.

        """
        names, kernels = set(gpus.gpu.texts()), set(kernel_names(gpus))
        if len(names) != 1 or len(kernels) != 1:
            raise UsageError(
                f"points must be of one GPU and one kernel, got {sorted(names | kernels)}"
            )
        (name,), (kernel,) = names, kernels
        own = model.thermal.gpus if model.thermal else ()
        thermal = next((each for each in own if each.gpu == name), None)
        contexts = contexts_of(gpus)
        part = model.latency
        member = (part.parts[:, None] == np.arange(int(part.parts.max()) + 1)).astype(np.float64)
        coefficients = part.costs(contexts, np.ones((len(gpus), len(part.parts))))
        return cls(
            bends=bends_of(gpus),
            latency=linear_terms(gpus, term_seconds) * coefficients[:, None, :] @ member,
            latency_factor=np.exp(part.corrections(gpus, contexts)),
            watts=None if model.watts is None else _nameless(prepare_watts(model.watts, gpus)),
            thermal=thermal,
            kernel_slope_per_celsius=0.0 if thermal is None else thermal.slope_of(kernel),
        )

    def at(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Return (seconds, watts) of every rank, each [..., num_ranks]; no power: watts are None.

        `rows` is [..., num_ranks, num_experts]. A rank without rows launches nothing: 0 s, 0 W.

        Raises:
            UsageError: the ranks are not as many as the GPUs that were prepared.

        """
        num_gpus = len(self.latency_factor)
        if num_gpus not in (1, rows.shape[-2]):
            raise UsageError(
                f"rows must be [..., {num_gpus}, num_experts], got {list(rows.shape)}",
                hint="Prepare one point for each rank, or one for all.",
            )
        seconds, watts = self.at_occupancy(occupancy_of_ranks(rows))
        shape = rows.shape[:-1]
        return seconds.reshape(shape), None if watts is None else watts.reshape(shape)

    def at_occupancy(
        self, occupancy: Occupancy
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Return (seconds, watts) of points, each [num_points], whose GPUs follow one another.

        The points are those of `occupancy_of_ranks`, for whom already has them.
        """
        repeated = self._repeated(len(occupancy.num_rows))
        values = features(occupancy, repeated.bends)
        parts = joined_parts(_mapped(values, self.latency))
        plain = parts * self.latency_factor[repeated.gpu]
        works = occupancy.num_rows > 0
        seconds = np.where(works, plain, 0.0)
        if self.watts is None or repeated.contexts is None:
            return seconds, None
        found = _watts_of(self.watts, repeated, occupancy, values, plain)
        return seconds, np.where(works, found, 0.0)

    def _repeated(self, num_steps: int) -> _Repeated:
        if num_steps not in self._by_num_steps:
            gpu = np.arange(num_steps) % len(self.latency_factor)
            contexts = None if self.watts is None else self.watts.contexts
            if contexts is not None:
                contexts = replace(
                    contexts,
                    index=np.arange(num_steps),
                    flags=contexts.flags[gpu],
                    kernel=contexts.kernel.take(gpu),
                    gpu=contexts.gpu.take(gpu),
                    sizes=contexts.sizes[gpu],
                )
            self._by_num_steps[num_steps] = _Repeated(gpu, self.bends.take(gpu), contexts)
        return self._by_num_steps[num_steps]


def occupancy_of_ranks(rows: NDArray[np.int64]) -> Occupancy:
    """Return the occupancy of rows [..., num_ranks, num_experts], a point for each rank."""
    counts = rows.reshape(-1, rows.shape[-1])
    ones = np.ones(counts.shape[1])
    # A product with ones adds small whole numbers exactly, and faster than a sum.
    tiles = ((counts + (_HEIGHTS - 1)) >> _SHIFTS).astype(np.float64) @ ones
    return Occupancy(
        num_active=(counts > 0).astype(np.float64) @ ones,
        num_rows=counts.astype(np.float64) @ ones,
        max_rows=counts.max(axis=1).astype(np.float64),
        tiles=tiles.T,
    )


def _mapped(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [num_points, num_parts] of features [num_points, num_features], GPU by GPU."""
    num_gpus, num_features, num_parts = weights.shape
    by_gpu = values.reshape(-1, num_gpus, num_features).swapaxes(0, 1)
    found: NDArray[np.float64] = (by_gpu @ weights).swapaxes(0, 1).reshape(-1, num_parts)
    return found


def _watts_of(
    prepared: PreparedWatts,
    repeated: _Repeated,
    occupancy: Occupancy,
    values: NDArray[np.float64],
    seconds: NDArray[np.float64],
) -> NDArray[np.float64]:
    assert repeated.contexts is not None
    numbers = _mapped(log_features(occupancy), prepared.numbers)
    numbers += np.log(seconds)[:, None] * prepared.per_log_seconds
    working = _mapped(values, prepared.working) / seconds[:, None]
    terms = _mapped(values, prepared.resting) + working
    contexts = replace(repeated.contexts, numbers=numbers)
    plain = prepared.part.uncorrected(contexts, terms) * prepared.factor[repeated.gpu]
    most = prepared.most_watts[repeated.gpu]
    return np.clip(plain, _LEAST_FRACTION * most, most)


def _nameless(prepared: PreparedWatts) -> PreparedWatts:
    """Return the same, with what the names of GPU and kernel add to the network in its biases."""
    part, contexts = prepared.part, prepared.contexts
    num_others = contexts.numbers.shape[1] + contexts.flags.shape[1]
    first, bias = part.network.weights[0], part.network.biases[0]
    named = part.encoder.inputs(contexts)[0, num_others:] @ first[num_others:]
    network = Network(
        (first[:num_others], *part.network.weights[1:]), (bias + named, *part.network.biases[1:])
    )
    encoder = Encoder(part.encoder.centre, part.encoder.scale, (), ())
    own: PartModel = replace(part, encoder=encoder, network=network)
    return replace(prepared, part=own)
