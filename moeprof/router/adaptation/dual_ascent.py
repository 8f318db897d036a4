"""Lambda, held by online dual ascent where a declared budget of quality is just spent.

The router's problem is: least cost, subject to a loss of quality of at most the budget. Its
Lagrangian is cost + mu · (loss - budget) (Boyd and Vandenberghe, Convex Optimization, 5.1), so a
router that weighs logits against lambda · cost has lambda = 1 / mu. Ascent in mu with one step per
observation, of a size that falls as 1/sqrt(n), is online gradient descent (Zinkevich, ICML 2003);
taken in the logarithm, as here, it is the exponentiated gradient (Kivinen and Warmuth, Information
and Computation 132, 1997). Their bounds on regret do not carry over: the step stops falling, so
that a change is followed, and it is divided by the slack's own spread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_MOST_SLACK: Final = 10.0  # budgets; beyond, an observation says no more
_SPREAD_GAIN: Final = 0.02
_LEAST_BUDGET: Final = 1e-6  # keeps the slack of a budget of nothing finite
_LEAD_OCTAVES: Final = 1.0


@dataclass(frozen=True, slots=True)
class DualAscentSettings:
    """Budgets, and how lambda moves.

    A first step of slack 1 (nothing of the budget spent) raises lambda by `first_step_octaves`,
    that is by doublings; steps fall as one over the square root of their number, down to
    `least_step_octaves`. At `lambda_min` and below, lambda is 0.
    """

    gate_mass_fraction: float | None = 0.95
    """Least share of plain top-k's gate mass that is retained; None: no such budget."""
    cross_entropy_nats: float | None = None
    """Most that the cross-entropy may be above plain top-k's; None: no such budget."""
    lambda_start: float = 0.1
    lambda_min: float = 1e-3
    lambda_max: float = 1e3
    first_step_octaves: float = 1.0
    least_step_octaves: float = 0.05


class DualAscent:
    """Lambda of every seed; each budget has a multiplier of its own, and the strictest holds.

    A budget that does not bind is kept at most one octave above the one that does, so that it is
    near when it has to take over. A budget of which nothing was ever observed does not bind.
    """

    def __init__(self, settings: DualAscentSettings, num_seeds: int = 1) -> None:
        self._settings = settings
        self._lowest, self._highest = np.log2([settings.lambda_min, settings.lambda_max])
        # [budgets, num_seeds]: gate mass, cross-entropy.
        self._octaves = np.full((2, num_seeds), np.log2(settings.lambda_start))
        self._square = np.ones((2, num_seeds))
        self._num_seen = np.zeros((2, num_seeds))
        self._value = self._strictest()

    @property
    def value(self) -> NDArray[np.float64]:
        """Return lambda, [num_seeds], from 0 to `lambda_max`; not to be written to."""
        return self._value

    def observe(
        self,
        *,
        gate_mass_fraction: ArrayLike | None = None,
        loss_difference_nats: ArrayLike | None = None,
    ) -> None:
        """Learn from one step what quality was kept, one number or [num_seeds] each.

        `gate_mass_fraction` is retained mass over plain top-k's; `loss_difference_nats` is the
        mean cross-entropy less plain top-k's. None and what is not finite change nothing.
        """
        settings = self._settings
        slack = np.full_like(self._octaves, np.nan)
        if gate_mass_fraction is not None and settings.gate_mass_fraction is not None:
            lost = 1 - np.asarray(gate_mass_fraction, dtype=np.float64)
            slack[0] = _slack(lost, 1 - settings.gate_mass_fraction)
        if loss_difference_nats is not None and settings.cross_entropy_nats is not None:
            lost = np.asarray(loss_difference_nats, dtype=np.float64)
            slack[1] = _slack(lost, settings.cross_entropy_nats)
        seen = np.isfinite(slack)
        if not seen.any():
            return
        slack = np.clip(np.where(seen, slack, 0), -_MOST_SLACK, _MOST_SLACK)
        self._num_seen += seen
        num_seen = np.maximum(self._num_seen, 1)
        spread_gain = np.where(seen, np.maximum(_SPREAD_GAIN, 1 / (1 + num_seen)), 0)
        self._square += spread_gain * (slack**2 - self._square)
        step = np.maximum(
            settings.least_step_octaves, settings.first_step_octaves / np.sqrt(num_seen)
        )
        # Noise of many budgets' size is walked over in small steps, and where slack is 0 on
        # average does not depend on them.
        moved = self._octaves + step * slack / np.sqrt(np.maximum(self._square, 1))
        self._octaves = np.clip(moved, self._lowest, self._highest)
        binding = self._binding()
        self._octaves = np.where(
            self._num_seen > 0, np.minimum(self._octaves, binding + _LEAD_OCTAVES), binding
        )
        self._value = self._strictest()

    def _binding(self) -> NDArray[np.float64]:
        # Before anything was seen of a seed, both budgets stand at the start.
        candidates = np.where(self._num_seen > 0, self._octaves, np.inf).min(axis=0)
        binding: NDArray[np.float64] = np.where(
            np.isfinite(candidates), candidates, self._octaves[0]
        )
        return binding

    def _strictest(self) -> NDArray[np.float64]:
        octaves = self._binding()
        return np.where(octaves > self._lowest, np.exp2(octaves), 0)


def _slack(lost: NDArray[np.float64], budget: float) -> NDArray[np.float64]:
    """Return what is left of a budget, in budgets."""
    return (budget - lost) / max(budget, _LEAST_BUDGET)
