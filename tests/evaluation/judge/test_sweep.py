from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from moeprof.evaluation.judge.figures import figures
from moeprof.evaluation.judge.sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Any]


def test_a_sweep_has_one_policys_settings_of_the_knob_in_order(run: Make, scene: Make) -> None:
    seconds = np.ones((3, 4))
    runs = scene(
        run("ours", seconds * 2, setting={"lambda": 1.0}, active=8, mass=0.75),
        run("ours", seconds * 3, setting={"lambda": 0}, active=16),
        run("ours", seconds, setting={"other": 4}),
        run("rival", seconds, setting={"lambda": 2.0}),
    )

    rows = sweep(runs, "ours", num_experts=32, seed=0)

    assert [row.value for row in rows] == [0, 1.0]
    assert [row.diversity.estimate for row in rows] == [0.5, 0.25]
    assert [row.loss.estimate for row in rows] == [0, 0.25]
    assert [row.step_latency.estimate for row in rows] == [3, 2]
    assert [row.joules_per_token.estimate for row in rows] == [750, 500]


def test_a_cross_entropy_has_the_interval_that_it_has_in_the_table(run: Make, scene: Make) -> None:
    losses = np.random.default_rng(3).normal(0.1, 0.2, size=(3, 4, 4))
    ours = run("ours", np.ones((3, 4)), setting={"lambda": 1.0}, losses=losses)
    runs = scene(ours, traffic="live")

    (row,) = sweep(runs, "ours", num_experts=32, seed=5)

    assert row.loss.low is not None
    assert row.loss == figures(runs, ours, seed=5).cross_entropy
