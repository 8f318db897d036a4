"""Random numbers that depend on the scene's seed and the place of a run's seed, and nothing else.

Seed s draws the same whether it runs alone or beside others, and whatever else is drawn: what
disturbs one policy disturbs its rivals alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_STREAM: Final = 0x7E1E  # keeps these apart from what else is drawn of the same seed
_DRAWS_AT_ONCE: Final = 64


def generators(seed: int, num_seeds: int, purpose: int) -> list[np.random.Generator]:
    """Return one generator per seed, of the stream for `purpose`."""
    # A seed may be negative, entropy may not.
    return [
        np.random.default_rng(np.random.SeedSequence([seed % 2**64, place, _STREAM, purpose]))
        for place in range(num_seeds)
    ]


def normals(
    seed: int, num_seeds: int, purpose: int, shape: tuple[int, ...]
) -> Iterator[NDArray[np.float64]]:
    """Yield standard normal draws, [num_seeds, *shape], without end."""
    sources = generators(seed, num_seeds, purpose)
    while True:
        yield from np.stack(
            [source.standard_normal((_DRAWS_AT_ONCE, *shape)) for source in sources], axis=1
        )


def uniforms(
    seed: int, num_seeds: int, purpose: int, shape: tuple[int, ...]
) -> Iterator[NDArray[np.float64]]:
    """Yield draws of [0, 1), [num_seeds, *shape], without end."""
    sources = generators(seed, num_seeds, purpose)
    while True:
        yield from np.stack([source.random((_DRAWS_AT_ONCE, *shape)) for source in sources], axis=1)
