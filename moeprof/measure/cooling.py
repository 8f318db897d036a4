"""Power that decays while a die cools, from the energy that a counter has summed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moeprof.measure.ticks import NORMAL_QUANTILE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from moeprof.measure.ticks import Tick

# Dies cool in seconds to minutes; beyond a minute a few seconds look straight.
_TIME_CONSTANTS_SECONDS = np.geomspace(0.5, 60.0, 60)
_STEP_FRACTION = 0.05
_WORSE_MAX = 4.0  # in squared deviations: the 95 % point of one degree of freedom
_COUNTER_STEP_JOULES = 0.001  # NVML counts millijoules


@dataclass(frozen=True, slots=True)
class Cooling:
    """Power at time 0, how much of it is falling with what time constant; 95 % half-widths."""

    watts: float
    error_watts: float
    falling_watts: float
    falling_error_watts: float
    time_constant_seconds: float


def fit_cooling(
    pieces: Sequence[Sequence[Tick]], *, start_seconds: float, lag_seconds: float
) -> Cooling:
    """Return the power `rest + falling * exp(-t / tau)` whose integral is nearest to the ticks'.

    Time 0 is `start_seconds`. Each piece of an unbroken counter has an origin of its own. Energy is
    known exactly but its moment is not: by the power times the tick's error, evenly.
    """
    ticks = [tick for piece in pieces for tick in piece]
    sizes = [len(piece) for piece in pieces]
    origins = np.repeat(np.eye(len(pieces)), sizes, axis=0)
    at_seconds = np.array([tick.at_seconds for tick in ticks]) - lag_seconds - start_seconds
    joules = np.array([tick.joules - piece[0].joules for piece in pieces for tick in piece])
    error_seconds = np.array([tick.error_seconds for tick in ticks])
    watts = _mean_watts(pieces)
    deviations = np.hypot(watts * error_seconds / np.sqrt(3), _COUNTER_STEP_JOULES)

    def columns(tau_seconds: float) -> NDArray[np.float64]:
        decayed = -tau_seconds * np.expm1(-at_seconds / tau_seconds)
        return np.column_stack([origins, at_seconds, decayed])

    def weights(tau_seconds: float) -> tuple[NDArray[np.float64], float]:
        scaled = columns(tau_seconds) / deviations[:, None]
        found, *_ = np.linalg.lstsq(scaled, joules / deviations, rcond=None)
        left = joules / deviations - scaled @ found
        return found, float(left @ left)

    losses = [weights(float(tau))[1] for tau in _TIME_CONSTANTS_SECONDS]
    best = int(np.argmin(losses))
    # A straight line, the slowest decay, unless the ticks speak against it.
    bends = losses[-1] - losses[best] > _WORSE_MAX * max(1.0, losses[best] / len(ticks))
    tau = float(_TIME_CONSTANTS_SECONDS[best if bends else -1])
    found, loss = weights(tau)
    rest, falling = found[-2:]
    # How far off the straight line may be is seen from the bend that fits best.
    doubt_watts = float(rest + falling - sum(weights(float(_TIME_CONSTANTS_SECONDS[best]))[0][-2:]))
    moved = falling * (columns(tau * (1 + _STEP_FRACTION)) - columns(tau))[:, -1]
    moved *= bends / _STEP_FRACTION
    matrix = np.column_stack([columns(tau), moved]) / deviations[:, None]
    excess = max(1.0, loss / max(1, len(ticks) - matrix.shape[1]))
    covariance = excess * np.linalg.pinv(matrix.T @ matrix)[-3:, -3:]
    at_start, of_falling = np.array([1.0, 1.0, 0.0]), np.array([0.0, 1.0, 0.0])
    return Cooling(
        watts=float(rest + falling),
        error_watts=math.hypot(
            NORMAL_QUANTILE * float(np.sqrt(at_start @ covariance @ at_start)), doubt_watts
        ),
        falling_watts=float(falling),
        falling_error_watts=NORMAL_QUANTILE * float(np.sqrt(of_falling @ covariance @ of_falling)),
        time_constant_seconds=tau,
    )


def _mean_watts(pieces: Sequence[Sequence[Tick]]) -> float:
    seconds = sum(piece[-1].at_seconds - piece[0].at_seconds for piece in pieces)
    return sum(piece[-1].joules - piece[0].joules for piece in pieces) / seconds
