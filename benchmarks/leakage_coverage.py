"""How often planted leakage lies inside its 90 % interval, over simulated sweeps of drawn GPUs.

    python benchmarks/leakage_coverage.py [--trials 400] [--seed 0] [--gpu h200-sxm]...

Every trial draws a card, a sweep over four held temperatures with drift, disturbed blocks and
noise, and in half of the trials a latency that itself changes with temperature.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from moeprof.cost.held_rows import held_rows_of_table
from moeprof.cost.points import observed_from_table, points_from_table, usable
from moeprof.cost.thermal_fit import fit_thermal
from moeprof.device.sim.truth import truth_of
from moeprof.hardware.catalogue import gpu
from moeprof.selfcheck.draw import between, with_drawn_heat
from moeprof.selfcheck.temperature_rows import drawn_plan, drawn_rows

if TYPE_CHECKING:
    from moeprof.hardware.gpu import GPU

_SLOWDOWN_FRACTION_PER_CELSIUS = (-1e-3, 1e-3)


def trial(card: GPU, random: np.random.Generator) -> tuple[bool, float]:
    """Return whether the planted leakage lies in its interval, and half of that, relative."""
    truth = with_drawn_heat(truth_of(card), random)
    # No point comes near the limit: there power cannot rise with leakage.
    truth = replace(truth, power_limit_watts=10 * truth.power_limit_watts)
    if random.random() < 0.5:  # noqa: PLR2004 - half of the trials
        slowdown = between(random, _SLOWDOWN_FRACTION_PER_CELSIUS)
        truth = replace(truth, latency_fraction_per_celsius=slowdown)
    planted = drawn_plan(random, disturbance_fraction_max=0.005, drift_fraction_max=0.04)
    table = usable(drawn_rows(truth, planted, random)[0]).table
    thermal = fit_thermal(
        points_from_table(table), observed_from_table(table), held_rows_of_table(table)
    )
    assert thermal is not None, "the temperatures lie 9 C apart or more"
    (found,) = thermal.gpus
    leakage = found.leakage_watts_per_celsius
    assert leakage is not None, "every row has power"
    excess_celsius = found.reference_celsius - truth.reference_celsius
    slope = truth.leakage_watts / truth.leakage_efold_celsius
    slope *= math.exp(excess_celsius / truth.leakage_efold_celsius)
    return leakage.low <= slope <= leakage.high, (leakage.high - leakage.low) / 2 / slope


def main() -> None:
    """Print the share of trials whose interval holds the leakage, by card and in all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gpu", action="append")
    asked = parser.parse_args()
    names = asked.gpu or ["h200-sxm", "a100-sxm-80gb"]
    hits = []
    for name in names:
        random = np.random.default_rng(asked.seed)
        found = [trial(gpu(name), random) for _ in range(asked.trials)]
        covered, half = zip(*found, strict=True)
        hits += covered
        print(
            f"{name}: {np.mean(covered):.1%} of {asked.trials} intervals of 90 % hold the planted "
            f"leakage; half an interval is {np.median(half):.1%} of it (median)"
        )
    error = math.sqrt(np.mean(hits) * (1 - np.mean(hits)) / len(hits))
    print(f"all: {np.mean(hits):.1%} ± {error:.1%} of {len(hits)}")


if __name__ == "__main__":
    main()
