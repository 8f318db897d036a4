"""Claims about many dies at once."""

from __future__ import annotations

import numpy as np
import pytest

from moeprof.device.sim.thermal import ThermalNetwork
from moeprof.device.sim.truth import truth_of
from moeprof.evaluation.cluster.heat import HeatStep
from moeprof.hardware.catalogue import gpu
from moeprof.hardware.physics import physics_of

CARD = gpu("b200")


@pytest.mark.parametrize("seconds", [0.01, 0.25, 30.0, 3000.0])
def test_every_die_goes_the_way_of_the_simulators(seconds: float) -> None:
    network = ThermalNetwork(truth_of(CARD))
    die, sink = np.array([[30.0, 90.0]]), np.array([[28.0, 60.0]])
    watts = np.array([[900.0, 100.0]])

    found = HeatStep.of(physics_of(CARD), seconds).after(die, sink, np.array([28.0, 28.0]), watts)

    for rank in range(2):
        one = network.after(seconds, die[0, rank], sink[0, rank], watts[0, rank])
        assert (found[0][0, rank], found[1][0, rank]) == pytest.approx(one, rel=1e-12)


def test_two_halves_of_a_step_are_the_step() -> None:
    half, whole = (HeatStep.of(physics_of(CARD), seconds) for seconds in (2.0, 4.0))
    die, sink, ambient, watts = (np.array([value]) for value in (50.0, 40.0, 20.0, 500.0))

    twice = half.after(*half.after(die, sink, ambient, watts), ambient, watts)

    np.testing.assert_allclose(twice, whole.after(die, sink, ambient, watts), rtol=1e-12)


def test_a_steady_die_stays_and_so_much_warmer_air_makes_it_so_much_warmer() -> None:
    step = HeatStep.of(physics_of(CARD), 1.0)
    ambient, watts = np.array([10.0, 30.0]), np.array([1000.0, 1000.0])

    die, sink = step.steady(ambient, watts)

    np.testing.assert_allclose(die, [60.0, 80.0])  # 50 C over ambient at the limit of 1000 W
    np.testing.assert_allclose(step.after(die, sink, ambient, watts), (die, sink))
    np.testing.assert_allclose(ambient + step.sink_fraction * (die - ambient), sink)
