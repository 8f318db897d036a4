"""The engineered columns that the peers' methods learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.demand import demand_of, ideal_seconds
from moeprof.workload.dtypes import BYTES_PER_ELEMENT
from moeprof.workload.occupancy import TILE_ROWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.labels import Labels
    from moeprof.cost.points import Points

_TEXTS: Final = ("kernel", "engine", "gpu", "weight_dtype", "activation_dtype", "routing_pattern")


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Columns [num_points, num_features] of float64 with their names.

    Columns whose names are in `categorical` hold a number per text, NaN for texts that the
    vocabulary has not.
    """

    values: NDArray[np.float64]
    names: tuple[str, ...]
    categorical: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The texts of each text column that a method has seen, so that it knows them again."""

    names: dict[str, tuple[str, ...]]


def vocabulary_of(points: Points) -> Vocabulary:
    """Return the texts that the points use."""
    return Vocabulary({name: getattr(points, name).used() for name in _TEXTS})


def shape_features(points: Points, vocabulary: Vocabulary) -> Features:
    """Return what a table of measurements itself says: logs of all sizes, and the texts."""
    return _with_texts(points, vocabulary, _sizes(points))


def physics_features(points: Points, vocabulary: Vocabulary) -> Features:
    """Return `shape_features` and what follows from them: occupancy, traffic, work, roofline.

    Of a GPU that is not in the catalogue the roofline is NaN.
    """
    demand, occupancy = demand_of(points), points.occupancy
    mean_rows = occupancy.num_rows / np.maximum(occupancy.num_active, 1)
    local = np.ceil(points.num_experts / points.ep_size)
    columns = _sizes(points)
    columns |= {
        "log_num_active": _log(occupancy.num_active),
        "log_num_rows": _log(occupancy.num_rows),
        "log_max_rows": _log(occupancy.max_rows),
        "log_mean_rows": _log(mean_rows),
        "active_fraction": occupancy.num_active / local,
        "log_weight_bytes": _log(demand.weight_bytes),
        "log_activation_bytes": _log(demand.activation_bytes),
        "log_flops": _log(demand.flops),
        "log_flops_per_byte": _log(demand.flops) - _log(demand.num_bytes),
        "log_ideal_seconds": np.log(ideal_seconds(points)),
        "weight_bytes_per_element": points.weight_dtype.numbers(BYTES_PER_ELEMENT.__getitem__),
    }
    for place, height in enumerate(TILE_ROWS):
        columns[f"log_tiles_{height}"] = _log(occupancy.tiles[:, place])
    return _with_texts(points, vocabulary, columns)


def _sizes(points: Points) -> dict[str, NDArray[np.float64]]:
    return {
        "log_batch_size": np.log(points.batch_size),
        "log_hidden_size": np.log(points.hidden_size),
        "log_expert_size": np.log(points.expert_size),
        "log_local_expert_size": np.log(points.expert_size / points.tp_size),
        "log_num_experts": np.log(points.num_experts),
        "log_top_k": np.log(points.top_k),
        "log_ep_size": np.log(points.ep_size),
        "log_tp_size": np.log(points.tp_size),
        "num_projections": points.num_projections.astype(np.float64),
    }


def _with_texts(
    points: Points, vocabulary: Vocabulary, columns: dict[str, NDArray[np.float64]]
) -> Features:
    texts = {name: _known(getattr(points, name), known) for name, known in vocabulary.names.items()}
    values = np.column_stack([*columns.values(), *texts.values()])
    return Features(values, (*columns, *texts), tuple(texts))


def _known(labels: Labels, known: tuple[str, ...]) -> NDArray[np.float64]:
    number = {name: float(place) for place, name in enumerate(known)}
    return labels.numbers(lambda name: number.get(name, np.nan))


def _log(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log(1 + counts), which a rank without rows has too."""
    return np.log1p(counts)
