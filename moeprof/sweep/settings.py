"""A recipe's sections as the settings that conditioning and measuring take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.conditioning.settings import HoldSettings, WarmUpSettings
from moeprof.measure.settings import EnergySettings, StoppingSettings

if TYPE_CHECKING:
    from moeprof.recipe.schema import ConditioningSection, Recipe


@dataclass(frozen=True, slots=True)
class Settings:
    """What one recipe means for every point."""

    stopping: StoppingSettings
    energy: EnergySettings
    warm_up: WarmUpSettings
    conditioning: ConditioningSection

    def hold(self, hold_celsius: float) -> HoldSettings:
        """Return the settings for one held temperature."""
        return HoldSettings(
            hold_celsius=hold_celsius,
            tolerance_celsius=self.conditioning.hold_tolerance_celsius,
            seconds_max=self.conditioning.hold_seconds_max,
        )


def settings_of(recipe: Recipe) -> Settings:
    """Return a recipe's settings."""
    return Settings(
        stopping=StoppingSettings(**recipe.stopping.model_dump()),
        energy=EnergySettings(**recipe.energy.model_dump()),
        warm_up=WarmUpSettings(warm_up_seconds=recipe.conditioning.warm_up_seconds),
        conditioning=recipe.conditioning,
    )
