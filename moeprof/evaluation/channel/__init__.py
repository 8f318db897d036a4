"""Telemetry as a router has it: late, noisy, lost, or a lie, and priced."""

from moeprof.evaluation.channel.channel import TelemetryChannel
from moeprof.evaluation.channel.figures import Readings, Truths
from moeprof.evaluation.channel.price import READING_BYTES, telemetry_bytes, telemetry_seconds

__all__ = [
    "READING_BYTES",
    "Readings",
    "TelemetryChannel",
    "Truths",
    "telemetry_bytes",
    "telemetry_seconds",
]
