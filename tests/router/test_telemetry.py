from __future__ import annotations

from moeprof.router import GpuReading, Telemetry


def test_a_rank_that_told_nothing_has_no_reading() -> None:
    hot = GpuReading(rank=1, die_celsius=90.0, age_seconds=0.01)

    assert Telemetry((hot,)).of_rank(1) is hot
    assert Telemetry((hot,)).of_rank(0) is None
    assert Telemetry().of_rank(0) is None


def test_what_a_gpu_did_not_tell_is_none() -> None:
    reading = GpuReading(rank=0, power_watts=300.0)

    assert (reading.die_celsius, reading.layer_seconds, reading.free_bytes) == (None, None, None)


def test_a_gpu_tells_what_it_was_measured_at_and_what_was_expected_of_it() -> None:
    slow = GpuReading(rank=2, layer_seconds=1.2e-4, expected_layer_seconds=1e-4)

    assert (slow.expected_layer_seconds, slow.expected_watts) == (1e-4, None)
