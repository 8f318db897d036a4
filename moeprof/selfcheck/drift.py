"""Whether a sweep's order and its sentinels keep drift out of the latencies, as promised."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from moeprof.analysis.drift import drift_corrected
from moeprof.analysis.rows import reals
from moeprof.dataset.read import read_measurements
from moeprof.device.sim.device import EPOCH_SECONDS
from moeprof.device.sim.timing import launch_cost
from moeprof.device.sim.truth import truth_of
from moeprof.device.simulated_work import SimulatedWork
from moeprof.measure.settings import StoppingSettings
from moeprof.measure.timing import measure_latency
from moeprof.recipe.load import load_recipe
from moeprof.selfcheck.check import Check
from moeprof.selfcheck.draw import between, log_between
from moeprof.selfcheck.drifting import DRIFT_FRACTION, SHAPES, Drift, DriftingDevice, Pacer
from moeprof.selfcheck.finding import Finding, Promise, of_share, of_statistic, told
from moeprof.sweep.case import rank_groups
from moeprof.sweep.plan import make_plan
from moeprof.sweep.run import run_sweep

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from moeprof.device.protocol import Device, Work
    from moeprof.device.sim.truth import Truth
    from moeprof.hardware.gpu import GPU
    from moeprof.recipe.load import LoadedRecipe

_SHAPE_CHANCES: Final = (0.6, 0.2, 0.2)
_STEP_FRACTION: Final = (0.2, 0.8)
# A sweep long enough for a thousand samples of the noisiest card would take a minute.
_NOISE_FRACTION: Final = (0.001, 0.006)
_CARRY_FRACTION: Final = (0.0, 0.7)
_HALF_WIDTH_FRACTION: Final = 0.002
_NUM_SAMPLES_MAX: Final = 1000
_PLACE_SECONDS: Final = (0.4, 4.0)  # points of a sweep differ in length
_RECIPE: Final = f"""
name = "selfcheck-drift"

[workload]
models = ["mixtral-8x7b"]
batch_sizes = [1, 2, 4, 8, 16, 32, 48, 64]

[conditioning]
warm_up_seconds = 0

[stopping]
relative_half_width_fraction = {_HALF_WIDTH_FRACTION}
num_samples_max = {_NUM_SAMPLES_MAX}

[energy]
enabled = false

[order]
num_blocks = 4
sentinel_every = 1
"""

_BIAS = Promise(
    "drift_bias",
    f"a straight drift of {100 * DRIFT_FRACTION:.0f} % makes two batch sizes differ "
    "by at most 0.2 % more than they do, in the mean over sweeps",
    high=0.002,
)
_COVERAGE = Promise(
    "drift_interval_coverage",
    "intervals of drift-corrected latencies hold the truth (nominal 0.95)",
    low=0.93,
)
_NAIVE: Final = "drift_bias_naive_order"
_OTHER: Final = "drift_bias_other_shapes"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one sweep was off by: logarithms of found over true latency, by batch size."""

    shape: str
    corrected: dict[int, float]
    naive: dict[int, float]  # measured one batch size after the other, and not corrected
    num_covered: int
    num_intervals: int


def trial(gpu: GPU, random: np.random.Generator) -> Outcome:
    """Sweep a card that drifts, with the recipe's order and from the smallest to the largest."""
    seed = int(random.integers(2**31))
    shape = str(random.choice(SHAPES, p=_SHAPE_CHANCES))
    truth = replace(
        truth_of(gpu),
        noise_fraction=log_between(random, _NOISE_FRACTION),
        noise_carry_fraction=between(random, _CARRY_FRACTION),
    )
    step_fraction = between(random, _STEP_FRACTION)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        path.write_text(_RECIPE, encoding="utf-8")
        loaded = load_recipe(path, seed=seed % 2**16)
        plan = make_plan(loaded)
        num_places = plan.num_points + plan.num_sentinels
        ends = np.cumsum([log_between(random, _PLACE_SECONDS) for _ in range(num_places)]).tolist()
        drift = Drift(shape, ends[-1], step_fraction)
        truth = drift.into(truth)
        device = DriftingDevice(gpu, truth, seed=seed, drift=drift)
        out = Path(folder) / "dataset"
        run_sweep(loaded, cast("Device", device), out, observer=Pacer(device, ends))
        table = drift_corrected(read_measurements(out))
    true_seconds = _true_seconds(loaded, truth)
    errors, covered = _errors(table, true_seconds, drift)
    device = DriftingDevice(gpu, truth, seed=seed + 1, drift=drift)
    naive = _naive_errors(loaded, device, true_seconds, ends[-1])
    return Outcome(shape, errors, naive, sum(covered), len(covered))


def judge(outcomes: Sequence[Outcome]) -> tuple[Finding, ...]:
    """Return the findings of all sweeps."""
    straight = [each for each in outcomes if each.shape == "straight"]
    covered = sum(each.num_covered for each in outcomes)
    num_intervals = sum(each.num_intervals for each in outcomes)
    others = {
        shape: _bias([each.corrected for each in outcomes if each.shape == shape])
        for shape in SHAPES[1:]
    }
    known = [value for value in others.values() if value is not None]
    return (
        replace(
            of_statistic(_BIAS, [each.corrected for each in straight], _bias),
            by={str(size): value for size, value in _means(straight, "corrected").items()},
        ),
        replace(
            told(
                _NAIVE,
                "the same, measured from the smallest batch to the largest and not corrected",
                _bias([each.naive for each in straight]),
                len(straight),
            ),
            by={str(size): value for size, value in _means(straight, "naive").items()},
        ),
        replace(
            told(
                _OTHER,
                "the same, of drifts that flatten out or come in one step",
                max(known, default=None),
                len(outcomes) - len(straight),
            ),
            by=others,
        ),
        replace(
            of_share(_COVERAGE, covered, num_intervals),
            by={shape: _covered([o for o in outcomes if o.shape == shape]) for shape in SHAPES},
        ),
    )


CHECKS: Final = (Check("drift", (_BIAS.name, _NAIVE, _OTHER, _COVERAGE.name), 90, trial, judge),)


def _covered(outcomes: Sequence[Outcome]) -> float | None:
    num_intervals = sum(each.num_intervals for each in outcomes)
    return sum(each.num_covered for each in outcomes) / num_intervals if num_intervals else None


def _means(outcomes: Sequence[Outcome], which: str) -> dict[int, float]:
    tables: list[dict[int, float]] = [getattr(each, which) for each in outcomes]
    sizes = tables[0] if tables else {}
    return {size: fmean(each[size] for each in tables) for size in sizes}


def _bias(errors: Sequence[dict[int, float]]) -> float | None:
    """Return by how much the mean errors of any two batch sizes differ at most."""
    if not errors:
        return None
    means = [fmean(each[size] for each in errors) for size in errors[0]]
    return math.expm1(max(means) - min(means))


def _true_seconds(loaded: LoadedRecipe, truth: Truth) -> dict[int, float]:
    """Return the true median of each batch size before any drift."""
    found = {}
    for block in make_plan(loaded).blocks:
        for entry in block.entries:
            (group,) = rank_groups(entry.case, seed=loaded.recipe.seed)
            work = SimulatedWork(group.workload, entry.case.kernel, entry.case.l2_state)
            seconds = launch_cost(truth, work).seconds(
                truth.sm_clock_hertz_max, truth.reference_celsius
            )
            found[entry.case.batch_size] = seconds * math.exp(-(truth.noise_fraction**2) / 2)
    return found


def _errors(
    table: pa.Table, true_seconds: dict[int, float], drift: Drift
) -> tuple[dict[int, float], list[bool]]:
    """Return the errors of the points, and whether each interval holds the truth."""
    roles, sizes = table["role"].to_pylist(), table["batch_size"].to_pylist()
    moments = [at.timestamp() - EPOCH_SECONDS for at in table["recorded_at"].to_pylist()]
    drifts = [math.log(drift.factor(seconds)) for seconds in moments]
    middle = fmean(log for log, role in zip(drifts, roles, strict=True) if role == "sentinel")
    name = "latency_seconds_drift_corrected"
    rows = [reals(table, f"{name}{suffix}").tolist() for suffix in ("", "_ci_low", "_ci_high")]
    errors, covered = {}, []
    for role, size, found, low, high in zip(roles, sizes, *rows, strict=True):
        if role == "point":
            expected = true_seconds[size] * math.exp(middle)
            errors[size] = math.log(found / expected)
            covered.append(low <= expected <= high)
    return errors, covered


def _naive_errors(
    loaded: LoadedRecipe,
    device: DriftingDevice,
    true_seconds: dict[int, float],
    sweep_seconds: float,
) -> dict[int, float]:
    """Measure one batch size after the other, evenly through the time of the sweep."""
    cases = {e.case.batch_size: e.case for b in make_plan(loaded).blocks for e in b.entries}
    settings = StoppingSettings(**loaded.recipe.stopping.model_dump())
    errors = {}
    for place, size in enumerate(sorted(cases)):
        device.sleep(max(0.0, place * sweep_seconds / (len(cases) - 1) - device.now()))
        (group,) = rank_groups(cases[size], seed=loaded.recipe.seed)
        work = SimulatedWork(group.workload, cases[size].kernel, cases[size].l2_state)
        program = device.prepare(cast("Work", work))
        latency, _ = measure_latency(cast("Device", device), program, settings, None)
        assert latency is not None, "every sample of a simulated card is kept without a hold"
        errors[size] = math.log(latency.median.estimate / true_seconds[size])
    return errors
