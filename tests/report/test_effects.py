"""Claims about how the effect of temperature is said."""

from __future__ import annotations

import json
from dataclasses import replace

from moeprof.analysis.temperature_effect import EffectGroup, TemperatureEffect
from moeprof.analysis.thermal_cause import Cause, ThermalCause
from moeprof.record import Interval
from moeprof.report.effects import effect_documents, effect_lines

GROUP = EffectGroup(
    source="simulated",
    device_kind="sim:h200-sxm",
    device_uuid="sim-1",
    kernel="torch-grouped",
    model="mixtral-8x7b",
    weight_dtype="bf16",
    activation_dtype="bf16",
    l2_state="cold",
    hold_celsius=(36.0, 39.0, 42.0, 45.0),
    num_blocks=12,
    num_points=8,
    num_rows=56,
)
NONE_SEEN = TemperatureEffect(
    group=GROUP,
    span_celsius=9.0,
    latency_seconds=1e-4,
    latency_fraction_per_celsius=Interval(4e-5, -2e-5, 1e-4, 0.95),
    latency_seconds_per_celsius=Interval(4e-9, -2e-9, 1e-8, 0.95),
    watts_per_celsius=Interval(0.74, 0.67, 0.81, 0.95),
    sm_clock_fraction_per_celsius=Interval(0.0, 0.0, 0.0, 0.95),
    cause=ThermalCause(Cause.NONE_SEEN, Cause.LEAKAGE, None, 0.0),
    absent_reason=None,
    watts_absent_reason=None,
    drift_told_apart=True,
)


def test_no_effect_is_said_as_an_interval_around_zero_and_what_it_excludes() -> None:
    _, latency, power = effect_lines([NONE_SEEN])

    assert "+0.004 %/°C (-0.002 to +0.01) over 9 °C" in latency
    assert latency.endswith("no effect larger than 0.01 %/°C")
    assert power.endswith("+0.74 W/°C (+0.67 to +0.81), at an unchanged clock: leakage")


def test_an_effect_is_said_with_its_cause() -> None:
    slowed = replace(
        NONE_SEEN,
        latency_fraction_per_celsius=Interval(2e-3, 1e-3, 3e-3, 0.95),
        cause=ThermalCause(Cause.POWER_LIMIT, None, 1.0, 1.0),
        watts_per_celsius=None,
        watts_absent_reason="no energy counter",
    )

    _, latency, power = effect_lines([slowed])

    assert latency.endswith("because the power limit is reached")
    assert "no effect" not in latency
    assert power.endswith("is not known: no energy counter")


def test_what_cannot_be_told_apart_from_drift_is_said_to_be_so() -> None:
    lines = list(effect_lines([replace(NONE_SEEN, drift_told_apart=False)]))

    assert "too few blocks to tell temperature from drift" in lines[1]


def test_where_nothing_can_be_told_the_reason_stands_there() -> None:
    absent = replace(NONE_SEEN, absent_reason="2 blocks were measured, and it takes 3", cause=None)

    lines = list(effect_lines([absent]))

    assert lines[1:] == ["  no effect can be told: 2 blocks were measured, and it takes 3"]


def test_the_document_gives_intervals_causes_and_what_is_excluded() -> None:
    (document,) = json.loads(json.dumps(effect_documents([NONE_SEEN]), allow_nan=False))

    assert document["smallest_excluded_fraction_per_celsius"] == 1e-4
    assert document["cause"]["watts"] == "leakage"
    assert document["group"]["num_blocks"] == 12
