"""Conformal intervals: how far off predictions were at points that a fit had not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.reach import Reach

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from moeprof.cost.reach import Reaches

COVERAGE: Final = 0.9
DECODE_TOKENS: Final = 256
_FEWEST: Final = 30  # errors that a quantile of 5 % is taken from
_BINS: Final = 4  # of the distance, with as many errors each
_UNKNOWN_LOG: Final = 0.7  # nothing to go by: half to twice
_LEAST_PER_OCTAVE: Final = 0.2  # beyond: aiconfigurator's tables, 512 to 16,384 tokens
_LEAST_TRIED_OCTAVES: Final = 0.1  # nearer than that is no distance to widen from
_WIDEST_LOG: Final = 7.0  # a thousandfold: all that "not known" can mean
_WIDER_PER_REACH: Final = 1.5  # when a nearer reach must stand in for a farther one


@dataclass(frozen=True, slots=True)
class Band:
    """Quantiles of log(observed / predicted) for one reach and regime, up to a distance."""

    reach: Reach
    decode: bool
    upto_octaves: float
    low: float
    high: float
    num_errors: int


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """Errors of predictions that were made without their points: log(observed / predicted)."""

    reaches: Reaches
    decode: NDArray[np.bool_]
    error: NDArray[np.float64]


def bands_of(parts: Sequence[Errors]) -> tuple[Band, ...]:
    """Return the bands that hold 90 % of the errors of each reach, by regime and distance.

    Beyond the measured batch sizes both regimes count alike: the distance tells them apart. The
    quantiles are those of split conformal prediction, one for each side, so that a prediction
    that is mostly too high has an interval that lies mostly below it. Source: Romano, Patterson
    and Candès, arXiv:1905.03222; Lei et al., arXiv:1604.04173.
    """
    bands: list[Band] = []
    for reach in Reach:
        for decode in (True, False):
            picked = [
                (e.reaches.reach == reach) & ((e.decode == decode) | (reach == Reach.BEYOND))
                for e in parts
            ]
            error = np.concatenate([e.error[m] for e, m in zip(parts, picked, strict=True)] or [[]])
            far = np.concatenate(
                [e.reaches.octaves[m] for e, m in zip(parts, picked, strict=True)] or [[]]
            )
            bands.extend(_binned(reach, decode=decode, error=error, octaves=far))
    return tuple(bands)


def bounds(
    bands: Sequence[Band], reaches: Reaches, decode: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lower and upper log ratio of each point's 90 % interval, [num_points] each.

    Beyond the last distance that was tried, a band widens in proportion. A reach that was not
    tried takes the nearest one that was, widened; without any, the interval is half to twice.
    """
    low = np.full(len(decode), -_UNKNOWN_LOG)
    high = np.full(len(decode), _UNKNOWN_LOG)
    for reach in Reach:
        for regime in (True, False):
            mine = (reaches.reach == reach) & (decode == regime)
            if not mine.any():
                continue
            found, wider = _stand_in(bands, reach, decode=regime)
            if not found:
                continue
            upto = np.array([band.upto_octaves for band in found])
            which = np.minimum(np.searchsorted(upto, reaches.octaves[mine]), len(found) - 1)
            scale = np.full(len(which), wider)
            if reach == Reach.BEYOND:
                tried = max(upto[-1], _LEAST_TRIED_OCTAVES)
                scale = scale * np.maximum(reaches.octaves[mine] / tried, 1)
            low[mine] = np.array([band.low for band in found])[which] * scale
            high[mine] = np.array([band.high for band in found])[which] * scale
    # Where another part of the roofline may take over, rehearsals within what was measured say
    # too little.
    beyond = reaches.reach == Reach.BEYOND
    least = np.where(beyond, np.minimum(_LEAST_PER_OCTAVE * reaches.octaves, _UNKNOWN_LOG), 0.0)
    low, high = np.minimum(low, -least), np.maximum(high, least)
    return np.clip(low, -_WIDEST_LOG, 0.0), np.clip(high, 0.0, _WIDEST_LOG)


def _binned(
    reach: Reach, *, decode: bool, error: NDArray[np.float64], octaves: NDArray[np.float64]
) -> list[Band]:
    if len(error) < _FEWEST:
        return []
    num_bins = min(_BINS, len(error) // (2 * _FEWEST)) if reach in _BY_DISTANCE else 1
    edges = np.unique(np.quantile(octaves, np.linspace(0, 1, max(num_bins, 1) + 1)[1:]))
    bands, start = [], -np.inf
    for edge in edges.tolist():
        picked = (octaves > start) & (octaves <= edge)
        if picked.sum() < _FEWEST:
            continue
        low, high = _quantiles(error[picked])
        bands.append(Band(reach, decode, edge, low, high, int(picked.sum())))
        start = edge
    return bands


_BY_DISTANCE: Final = (Reach.CURVE, Reach.PATTERN, Reach.BEYOND)


def _quantiles(error: NDArray[np.float64]) -> tuple[float, float]:
    """Return the order statistics that keep the coverage with finitely many errors."""
    ordered = np.sort(error)
    num = len(ordered)
    tail = (1 - COVERAGE) / 2
    above = min(int(np.ceil((1 - tail) * (num + 1))), num) - 1
    return float(ordered[num - 1 - above]), float(ordered[above])


def _stand_in(bands: Sequence[Band], reach: Reach, *, decode: bool) -> tuple[list[Band], float]:
    for distance in range(len(Reach)):
        for other in (reach - distance, reach + distance):
            for regime in (decode, not decode):
                found = [b for b in bands if b.reach == other and b.decode == regime]
                if found:
                    steps = max(int(reach) - other, 0)
                    return found, _WIDER_PER_REACH**steps
    return [], 1.0
