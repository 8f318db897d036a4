from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from cost.tables import row, table

from moeprof.cost.points import points_from_table
from moeprof.cost.thermal import GPUThermal, Thermal
from moeprof.cost.thermal_safe import thermal_safe_batch_size
from moeprof.errors import FitError, UsageError
from moeprof.record import Interval

if TYPE_CHECKING:
    from moeprof.cost.model import CostModel
    from moeprof.cost.points import Points

TOKENS = (1, 4, 16, 64, 256, 1024)
KELVIN_PER_WATT = 0.07


def ladder() -> Points:
    return points_from_table(
        table([row(batch_size=tokens, routing_pattern="uniform") for tokens in TOKENS])
    )


def steady_celsius(model: CostModel, coolant_celsius: float) -> list[float]:
    """Return where each batch size settles, found by going there step by step."""
    celsius = np.full(len(TOKENS), coolant_celsius)
    for _ in range(60):
        power = model.average_watts(replace(ladder(), die_celsius=celsius))
        assert power is not None
        celsius = coolant_celsius + KELVIN_PER_WATT * power.value
    return celsius.tolist()


@pytest.fixture(scope="module")
def leaking_model(model: CostModel) -> CostModel:
    leakage = Interval(0.8, 0.7, 0.9, 0.9)
    own = GPUThermal(
        "h200-sxm", 50.0, 40.0, 60.0, 700.0, leakage, 36.0, leakage, None, (), None
    )  # fmt: skip
    return replace(model, thermal=Thermal((own,)))


def test_the_largest_safe_batch_is_that_whose_steady_state_stays_under(
    leaking_model: CostModel,
) -> None:
    settled = steady_celsius(leaking_model, 40.0)
    limits = np.array([settled[2] + 0.01, settled[3] - 0.01, settled[0] - 0.01, 150.0])

    safe = thermal_safe_batch_size(
        leaking_model,
        ladder(),
        coolant_celsius=40.0,
        limit_celsius=limits,
        kelvin_per_watt=KELVIN_PER_WATT,
        cautious=False,
    )

    assert np.all(np.diff(settled) > 0)
    assert safe.tolist() == [16, 16, 0, 1024]


def test_caution_and_heat_never_allow_more(leaking_model: CostModel) -> None:
    coolant = np.arange(0.0, 90.0, 2.0)

    def safe(*, cautious: bool) -> list[int]:
        return thermal_safe_batch_size(
            leaking_model,
            ladder(),
            coolant_celsius=coolant,
            limit_celsius=80.0,
            kelvin_per_watt=KELVIN_PER_WATT,
            cautious=cautious,
        ).tolist()

    plain = safe(cautious=False)
    assert plain == sorted(plain, reverse=True)
    assert len(set(plain)) > 2
    assert all(one <= other for one, other in zip(safe(cautious=True), plain, strict=True))


def test_a_model_without_power_cannot_tell(model: CostModel) -> None:
    with pytest.raises(FitError, match="without power"):
        thermal_safe_batch_size(
            replace(model, watts=None),
            ladder(),
            coolant_celsius=30.0,
            limit_celsius=80.0,
            kelvin_per_watt=0.1,
        )


def test_an_impossible_resistance_is_refused(model: CostModel) -> None:
    with pytest.raises(UsageError, match="kelvin_per_watt must be above 0, got 0"):
        thermal_safe_batch_size(
            model, ladder(), coolant_celsius=30.0, limit_celsius=80.0, kelvin_per_watt=0.0
        )
