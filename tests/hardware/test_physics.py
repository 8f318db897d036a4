"""Claims about the numbers that emulated GPUs live by."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest

from moeprof.device.sim.truth import truth_of
from moeprof.errors import HardwareError
from moeprof.hardware.catalogue import gpu, gpu_names
from moeprof.hardware.gpu import GPU
from moeprof.hardware.physics import physics_of

SAME_AS_SIMULATED = (
    "bytes_per_second",
    "flops_per_second",
    "power_limit_watts",
    "idle_watts",
    "busy_watts",
    "leakage_watts",
    "reference_celsius",
    "leakage_efold_celsius",
    "joules_per_byte",
    "joules_per_flop",
    "voltage_floor_fraction",
    "sm_clock_hertz_max",
    "slowdown_celsius",
    "die_celsius_per_watt",
    "heatsink_celsius_per_watt",
)


@pytest.mark.parametrize("name", ["deployment-card", "b200"])
def test_what_is_assumed_is_what_the_simulator_assumes(name: str) -> None:
    physics, truth = physics_of(gpu(name)), truth_of(gpu(name))

    for field in SAME_AS_SIMULATED:
        assert getattr(physics, field) == pytest.approx(getattr(truth, field)), field
    lowest = physics.lowest_clock_fraction * physics.sm_clock_hertz_max
    assert lowest == truth.sm_clock_hertz_min
    assert physics.die_seconds == pytest.approx(
        truth.die_joules_per_celsius * truth.die_celsius_per_watt
    )


@pytest.mark.parametrize("name", gpu_names())
def test_every_gpu_has_every_number(name: str) -> None:
    numbers = [value for value in asdict(physics_of(gpu(name))).values() if type(value) is float]

    assert len(numbers) > 10
    assert all(math.isfinite(number) and number > 0 for number in numbers)


@pytest.mark.parametrize(
    ("name", "celsius", "seen_watts"),
    [
        ("h200-sxm", 28, 74.58),
        ("h100-sxm", 33, 72.02),
        ("a100-sxm-80gb", 22, 52.12),
        ("l40s", 29, 36.13),
    ],
)
def test_an_idle_card_draws_what_its_driver_showed(
    name: str, celsius: float, seen_watts: float
) -> None:
    physics = physics_of(gpu(name))

    efolds = (celsius - physics.reference_celsius) / physics.leakage_efold_celsius
    drawn = physics.idle_watts + physics.leakage_watts * math.exp(efolds)

    assert drawn == pytest.approx(seen_watts, abs=0.1)


def test_an_h200_that_reads_memory_draws_what_decode_was_seen_to_draw() -> None:
    physics = physics_of(gpu("h200-sxm"))
    static = physics.idle_watts + physics.busy_watts + physics.leakage_watts

    full = static + physics.bytes_per_second * physics.joules_per_byte

    assert 137 <= static <= full <= 305


def test_clocks_fall_from_the_drivers_highest_temperature_on() -> None:
    card = gpu("a100-sxm-80gb")

    assert physics_of(card).slowdown_celsius == card.max_operating_celsius == 85.0
    assert card.slowdown_celsius is None
    assert truth_of(card).slowdown_celsius == 87.0  # the simulator's cards stay what they were


def test_what_the_catalogue_does_not_know_is_named() -> None:
    known, unknown = physics_of(gpu("h200-sxm")), physics_of(gpu("deployment-card"))

    assert "idle_watts" not in known.assumed
    assert "leakage_watts" in known.assumed
    assert {"power_limit_watts", "idle_watts", "max_operating_celsius"} <= set(unknown.assumed)
    assert "achievable_bandwidth_fraction" not in unknown.assumed


def test_an_impossible_number_of_an_emulation_is_refused() -> None:
    with pytest.raises(HardwareError, match=r"lowest_clock_fraction must lie in 0\.\.1, got 2"):
        GPU("mine", (), {"bf16": 1e12}, 1e12, 1, lowest_clock_fraction=2.0)
    with pytest.raises(HardwareError, match="leakage_watts must be above 0, got -1"):
        GPU("mine", (), {"bf16": 1e12}, 1e12, 1, leakage_watts=-1)
