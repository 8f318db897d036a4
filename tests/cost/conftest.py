"""One small model with time and power, fitted once for all tests that ask a model something."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from cost.tables import SHAPES, law_seconds, row, table

from moeprof.cost.fit import FitSettings, fit_cost
from moeprof.cost.points import observed_from_table, points_from_table

if TYPE_CHECKING:
    from moeprof.cost.model import CostModel

_TOKENS = (1, 4, 16, 64, 256, 1024)
_PATTERNS = ("uniform", "power_law:1.2", "balanced")


def measured_points() -> pa.Table:
    """72 rows: four layers, six batch sizes, three patterns, with costs that a known law gives."""
    rows = [
        row(
            hidden_size=hidden,
            expert_size=expert,
            num_experts=experts,
            top_k=top_k,
            batch_size=tokens,
            routing_pattern=pattern,
        )
        for (hidden, expert, experts, top_k), tokens, pattern in product(SHAPES, _TOKENS, _PATTERNS)
    ]
    without = table(rows)
    seconds = law_seconds(points_from_table(without))
    seconds *= np.exp(np.random.default_rng(0).normal(0, 0.01, len(seconds)))
    watts = 200 + 300 * seconds / (seconds + 1e-4)
    place = without.column_names.index("latency_seconds")
    found = without.set_column(place, "latency_seconds", pa.array(seconds))
    found = found.append_column("average_watts", pa.array(watts))
    return found.append_column("energy_joules", pa.array(watts * seconds))


def small_model() -> CostModel:
    measured = measured_points()
    return fit_cost(
        points_from_table(measured),
        observed_from_table(measured),
        settings=FitSettings(num_steps=60, num_rehearsal_steps=20),
    )


@pytest.fixture(scope="session")
def measured_table() -> pa.Table:
    return measured_points()


@pytest.fixture(scope="session")
def model() -> CostModel:
    return small_model()
