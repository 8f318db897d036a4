"""The sections of a model file on adaptations, and the anchors that they become."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from moeprof.cost.anchors import Anchors
from moeprof.cost.contexts import NUM_SHAPE_SIZES
from moeprof.recipe.schema import Strict

if TYPE_CHECKING:
    from collections.abc import Iterable

_NUM_PLACES = 3

Name = Annotated[str, Field(max_length=1000)]
Size = Annotated[int, Field(ge=1, le=2**31 - 1)]
Octaves = Annotated[float, Field(ge=0, le=64)]


class AnchorSection(Strict):
    """One point that a model was adapted to."""

    kernel: Name
    gpu: Name
    sizes: Annotated[list[Size], Field(min_length=NUM_SHAPE_SIZES, max_length=NUM_SHAPE_SIZES)]
    place: Annotated[list[Octaves], Field(min_length=_NUM_PLACES, max_length=_NUM_PLACES)]
    weight: Annotated[float, Field(ge=-1e5, le=1e5)]


class AnchorsSection(Strict):
    """One adaptation (see `anchors.Anchors`)."""

    points: Annotated[list[AnchorSection], Field(min_length=1, max_length=10_000)]
    spread_fraction: Annotated[float, Field(ge=0, le=30)]
    new_gpus: list[Name]
    new_kernels: list[Name]

    def anchors(self) -> Anchors:
        """Return what the section stands for."""
        return Anchors(
            keys=tuple((each.kernel, each.gpu, *each.sizes) for each in self.points),
            places=np.array([each.place for each in self.points], dtype=np.float64),
            weights=np.array([each.weight for each in self.points], dtype=np.float64),
            spread_fraction=self.spread_fraction,
            new_gpus=tuple(self.new_gpus),
            new_kernels=tuple(self.new_kernels),
        )


def anchor_sections(adaptations: Iterable[Anchors]) -> list[dict[str, Any]]:
    """Return adaptations as a model file has them, every number with all its digits."""
    return [
        {
            "points": [
                {
                    "kernel": key[0],
                    "gpu": key[1],
                    "sizes": list(key[2:]),
                    "place": place,
                    "weight": weight,
                }
                for key, place, weight in zip(
                    each.keys, each.places.tolist(), each.weights.tolist(), strict=True
                )
            ],
            "spread_fraction": each.spread_fraction,
            "new_gpus": list(each.new_gpus),
            "new_kernels": list(each.new_kernels),
        }
        for each in adaptations
    ]
