"""What one knob of a policy does: diversity, loss, latency and joules of every value of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.evaluation.judge.figures import cross_entropy
from moeprof.evaluation.judge.metrics import JOULES, LATENCY, quality_losses, seed_values
from moeprof.evaluation.judge.student import Estimated, mean

if TYPE_CHECKING:
    from moeprof.evaluation.runs import SceneRuns
    from moeprof.recipe.scene import Knob


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One value of the knob; bounds are over seeds, of a cross-entropy over requests."""

    value: Knob
    diversity: Estimated
    """Active experts over all experts; replicas on several ranks count each."""
    loss: Estimated
    """As `moeprof.evaluation.judge.metrics.quality_losses`."""
    step_latency: Estimated
    """Seconds."""
    joules_per_token: Estimated


def sweep(
    runs: SceneRuns, policy: str, *, num_experts: int, seed: int, knob: str = "lambda"
) -> tuple[SweepRow, ...]:
    """Return a row for every setting of the policy that has the knob, in the knob's order.

    The order is that of the runs where the knob's values are no numbers; `seed` is for the
    resampling of requests.
    """
    rows = []
    for run in runs.runs:
        if run.policy != policy or knob not in run.setting:
            continue
        active, seconds, joules = (
            seed_values(runs, run, metric) for metric in ("active_experts", LATENCY, JOULES)
        )
        loss = cross_entropy(runs, run, seed=seed) if runs.traffic == "live" else None
        assert active is not None, "known of every run"
        assert seconds is not None, "known of every run"
        assert joules is not None, "known of every run"
        rows.append(
            SweepRow(
                value=run.setting[knob],
                diversity=mean(active / num_experts),
                loss=mean(quality_losses(runs, run)) if loss is None else loss,
                step_latency=mean(seconds),
                joules_per_token=mean(joules),
            )
        )
    return tuple(sorted(rows, key=_number))


def _number(row: SweepRow) -> float:
    return float(row.value) if isinstance(row.value, int | float) else 0.0
