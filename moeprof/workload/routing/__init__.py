"""How the tokens of a batch fall on experts: patterns parsed from text, checked, and drawn."""

from __future__ import annotations

from moeprof.workload.routing.check import check
from moeprof.workload.routing.draw import draw
from moeprof.workload.routing.pattern import (
    Active,
    Balanced,
    Dirichlet,
    Grouped,
    Hot,
    PackedPowerLaw,
    Pattern,
    PowerLaw,
    Replay,
    Strided,
    Uniform,
    Zipf,
)
from moeprof.workload.routing.replay import content_digest
from moeprof.workload.routing.rows import rows_per_expert
from moeprof.workload.routing.text import PATTERN_FORMS, parse

__all__ = [
    "PATTERN_FORMS",
    "Active",
    "Balanced",
    "Dirichlet",
    "Grouped",
    "Hot",
    "PackedPowerLaw",
    "Pattern",
    "PowerLaw",
    "Replay",
    "Strided",
    "Uniform",
    "Zipf",
    "check",
    "content_digest",
    "draw",
    "parse",
    "rows_per_expert",
]
