"""What does not change with a step's rows: the layer, the kernel, the GPU, the parallelism."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.grouping import first_places, group_codes
from moeprof.cost.labels import joined
from moeprof.cost.tiles.chosen import tiles_of
from moeprof.workload.dtypes import BYTES_PER_ELEMENT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.labels import Labels
    from moeprof.cost.points import Points

SIZES: Final = (
    "hidden_size",
    "expert_size",
    "num_experts",
    "top_k",
    "num_projections",
    "tp_size",
    "ep_size",
)
NUM_SHAPE_SIZES: Final = 5  # the first of SIZES: the layer's own
NUMBERS: Final = (
    "hidden_size",
    "local_expert_size",
    "local_experts",
    "num_experts",
    "top_k",
    "tp_size",
    "ep_size",
    "expert_bytes",
    "padding",
    "first_blocks",
    "second_blocks",
    "weight_bytes",
    "unaligned",
)
FLAGS: Final = ("triton", "cutlass", "marlin", "narrow_activations", "weight_only", "fp8", "tuned")

_BLOCK_ELEMENTS: Final = 128
_ALIGNED_ELEMENTS: Final = 64
_VECTOR_ELEMENTS: Final = 16  # Triton loads wide only where an inner size divides by 16
_FAMILIES: Final = {
    "triton": ("triton",),
    "cutlass": ("cutlass", "flashinfer"),
    "marlin": ("marlin",),
}


@dataclass(frozen=True, slots=True, eq=False)
class Contexts:
    """The distinct contexts of points, and which of them each point has.

    `index`, [num_points], numbers the contexts.
    `numbers`, [num_contexts, len(NUMBERS)], are logarithms of sizes, and shares; `flags`,
    [num_contexts, len(FLAGS)], are 0 or 1. `kernel` and `gpu` are names, [num_contexts]; `sizes`,
    [num_contexts, len(SIZES)], are those of the layer and its parallelism.
    """

    index: NDArray[np.int64]
    numbers: NDArray[np.float64]
    flags: NDArray[np.float64]
    kernel: Labels
    gpu: Labels
    sizes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sizes)

    def keys(self) -> list[tuple[str | int, ...]]:
        """Return what tells each context from all others: kernel, GPU and sizes."""
        sizes = self.sizes.tolist()
        return [
            (kernel, gpu, *row)
            for kernel, gpu, row in zip(self.kernel.texts(), self.gpu.texts(), sizes, strict=True)
        ]

    def take(self, points: NDArray[np.bool_]) -> Contexts:
        """Return the contexts of some of the points, by a mask [num_points]."""
        used, index = np.unique(self.index[points], return_inverse=True)
        return self._rows(used, index.ravel())

    def of_each_point(self, numbers: NDArray[np.float64]) -> Contexts:
        """Return a context for every point, with these numbers of it, [num_points, num_numbers]."""
        wide = self._rows(self.index, np.arange(len(self.index)))
        return replace(wide, numbers=numbers)

    def _rows(self, rows: NDArray[np.int64], index: NDArray[np.int64]) -> Contexts:
        return Contexts(
            index=index,
            numbers=self.numbers[rows],
            flags=self.flags[rows],
            kernel=self.kernel.take(rows),
            gpu=self.gpu.take(rows),
            sizes=self.sizes[rows],
        )


def contexts_of(points: Points) -> Contexts:
    """Return the distinct contexts of points, in the order of their sizes and names."""
    columns = [each.codes.astype(np.int64) for each in _labels(points)]
    index = group_codes([*columns, *(getattr(points, name) for name in SIZES)])
    first = first_places(index)
    some = points.take(first)
    return Contexts(
        index=index,
        numbers=_numbers(some),
        flags=_flags(some),
        kernel=_kernel(some),
        gpu=some.gpu,
        sizes=np.stack([getattr(some, name) for name in SIZES], axis=-1),
    )


def kernel_names(points: Points) -> list[str]:
    """Return what tells kernels apart for each point: engine, kernel and number formats."""
    return _kernel(points).texts()


def _kernel(points: Points) -> Labels:
    first, *others = _labels(points)[1:]
    for each in others:
        first = joined(first, each, lambda one, other: f"{one} | {other}")
    return first


def _labels(points: Points) -> tuple[Labels, ...]:
    return (
        points.gpu,
        points.engine,
        points.kernel,
        points.weight_dtype,
        points.activation_dtype,
    )


def _numbers(points: Points) -> NDArray[np.float64]:
    hidden = points.hidden_size.astype(np.float64)
    local = points.expert_size / points.tp_size
    projections = points.num_projections.astype(np.float64)
    num_bytes = points.weight_dtype.numbers(BYTES_PER_ELEMENT.__getitem__)
    first = np.ceil((projections - 1) * local / _BLOCK_ELEMENTS)
    columns = [
        np.log(hidden),
        np.log(local),
        np.log(points.num_experts / points.ep_size),
        np.log(points.num_experts),
        np.log(points.top_k),
        np.log(points.tp_size),
        np.log(points.ep_size),
        np.log(projections * hidden * local * num_bytes),
        np.ceil(local / _ALIGNED_ELEMENTS) * _ALIGNED_ELEMENTS / local,
        np.log(np.maximum(first, 1.0)),
        np.log(hidden / _BLOCK_ELEMENTS),
        np.log(num_bytes),
        (local % _VECTOR_ELEMENTS != 0).astype(np.float64),
    ]
    return np.stack(columns, axis=-1)


def _flags(points: Points) -> NDArray[np.float64]:
    names = [text.lower() for text in points.kernel.texts()]
    weights = points.weight_dtype.numbers(BYTES_PER_ELEMENT.__getitem__)
    activations = points.activation_dtype.numbers(BYTES_PER_ELEMENT.__getitem__)
    families = [
        np.array([any(word in name for word in words) for name in names], dtype=bool)
        for words in _FAMILIES.values()
    ]
    tuned = tiles_of(points).is_tuned
    columns = [*families, activations < 2, weights < 0.9, weights < 1.5, tuned]  # noqa: PLR2004 - between the widths of formats
    return np.stack(columns, axis=-1).astype(np.float64)
