"""Claims about clocks under heat and power limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moeprof.evaluation.cluster.clock import Demand, at_clock, fitting_clock, thermal_clock
from moeprof.hardware.catalogue import gpu
from moeprof.hardware.physics import Physics, physics_of

H200 = physics_of(gpu("h200-sxm"))


def demand(**changes: float) -> Demand:
    usual = {
        "seconds": 1e-4,
        "clocked_fraction": 0.1,
        "steady_watts": 100.0,
        "clocked_watts": 50.0,
        "memory_joules": 0.015,
        "compute_joules": 0.01,
    }
    return Demand(**{name: np.array([value]) for name, value in (usual | changes).items()})


def watts_by_hand(physics: Physics, work: Demand, clock: float) -> float:
    voltage = physics.voltage_floor_fraction + (1 - physics.voltage_floor_fraction) * clock
    clocked = float(work.clocked_fraction[0])
    seconds = float(work.seconds[0]) * ((1 - clocked) + clocked / clock)
    joules = float(work.memory_joules[0]) + float(work.compute_joules[0]) * voltage**2
    return float(
        work.steady_watts[0] + work.clocked_watts[0] * clock * voltage**2 + joules / seconds
    )


def test_power_at_half_the_clock_worked_by_hand() -> None:
    # Voltage 0.8: 100 + 50 x 0.5 x 0.64 W; 0.015 + 0.0064 J over 1e-4 x (0.9 + 0.2) s.
    seconds, watts = at_clock(H200, demand(), np.array([0.5]))

    assert seconds[0] == pytest.approx(1.1e-4)
    assert watts[0] == pytest.approx(116 + 0.0214 / 1.1e-4)


def test_the_clock_falls_from_the_slowdown_temperature_to_its_lowest() -> None:
    clocks = thermal_clock(H200, np.array([-10.0, 87.0, 88.0, 89.0, 120.0]))

    np.testing.assert_allclose(clocks, [1.0, 1.0, 0.75, 0.5, 0.4])


@settings(deadline=None, max_examples=80)
@given(
    limit=st.floats(110, 800),
    clocked=st.floats(0.05, 1.0),
    memory=st.floats(0.0, 0.05),
    compute=st.floats(0.0, 0.05),
    highest=st.sampled_from([0.4, 0.75, 1.0]),
)
def test_the_clock_is_the_largest_whose_power_the_limit_allows(
    limit: float, clocked: float, memory: float, compute: float, highest: float
) -> None:
    work = demand(clocked_fraction=clocked, memory_joules=memory, compute_joules=compute)
    low, high = H200.lowest_clock_fraction, highest
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if watts_by_hand(H200, work, middle) <= limit else (low, middle)

    found = fitting_clock(H200, work, np.array([highest]), np.array([limit]))

    assert found[0] == pytest.approx(low, abs=2e-4)
    if found[0] > H200.lowest_clock_fraction:
        assert watts_by_hand(H200, work, found[0]) <= limit * (1 + 1e-4)


def test_a_limit_that_no_clock_holds_gets_the_lowest() -> None:
    found = fitting_clock(H200, demand(), np.array([1.0]), np.array([90.0]))

    assert found[0] == H200.lowest_clock_fraction
