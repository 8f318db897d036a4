"""A recipe's sections as the settings that conditioning and measuring take."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from moeprof.conditioning.settings import HoldSettings, WarmUpSettings
from moeprof.measure.settings import EnergySettings, StoppingSettings

if TYPE_CHECKING:
    from moeprof.recipe.schema import ConditioningSection, Recipe

_SETTLE_AGAIN_SECONDS = 2.0
_HOLD_AGAIN_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What one recipe means for every point."""

    stopping: StoppingSettings
    energy: EnergySettings
    warm_up: WarmUpSettings
    conditioning: ConditioningSection

    def hold(self, hold_celsius: float) -> HoldSettings:
        """Return the settings with which a block comes to its temperature, and settles there."""
        return HoldSettings(
            hold_celsius=hold_celsius,
            tolerance_celsius=self.conditioning.hold_tolerance_celsius,
            seconds_max=self.conditioning.hold_seconds_max,
        )

    def hold_again(self, hold_celsius: float) -> HoldSettings:
        """Return the settings with which a point takes over a temperature already settled at."""
        return replace(
            self.hold(hold_celsius),
            settle_seconds=min(_SETTLE_AGAIN_SECONDS, self.conditioning.hold_seconds_max / 2),
            # No drift can be read from whole degrees in so short a time: the block's hold did.
            drift_celsius_per_minute_max=math.inf,
            seconds_max=min(_HOLD_AGAIN_SECONDS_MAX, self.conditioning.hold_seconds_max),
        )


def settings_of(recipe: Recipe) -> Settings:
    """Return a recipe's settings."""
    return Settings(
        stopping=StoppingSettings(**recipe.stopping.model_dump()),
        energy=EnergySettings(**recipe.energy.model_dump()),
        warm_up=WarmUpSettings(warm_up_seconds=recipe.conditioning.warm_up_seconds),
        conditioning=recipe.conditioning,
    )
