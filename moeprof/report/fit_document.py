"""The JSON document of `moeprof fit-cost`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moeprof.cost.held_out import scores_document
from moeprof.report.suspected import suspect_documents

if TYPE_CHECKING:
    from pathlib import Path

    from moeprof.cost.fitting import FittedCost
    from moeprof.cost.noise import NoiseLevel


def fit_document(fitted: FittedCost, out: Path) -> dict[str, Any]:
    """Return what a fit came to as plain JSON values; errors, biases and coverages are fractions.

    `flagged_rows` counts rows, `suspects` lists what is wrong with them, at most 1000.
    """
    assessment, provenance = fitted.assessment, fitted.model.provenance
    document = {
        "out": str(out),
        "model_bytes": out.stat().st_size,
        "num_rows": len(fitted.gathered.points),
        "left_out": dict(fitted.gathered.num_left_out),
        "num_drift_corrected": fitted.gathered.num_drift_corrected,
        "sources": list(provenance.sources),
        "datasets": list(provenance.datasets),
        "not_identified": list(provenance.not_identified),
        "seed": provenance.seed,
        "holdout": assessment.holdout.value,
        "num_splits": assessment.num_splits,
        "methods": {name: scores_document(each) for name, each in assessment.methods.items()},
        "methods_failed": dict(assessment.failed),
        "flagged_rows": len({each.row for each in fitted.suspects}),
        "suspects": suspect_documents(fitted.gathered.table, fitted.suspects),
        "fit_seconds": fitted.fit_seconds,
    }
    if fitted.noise:
        document["noise"] = [_noise_document(each) for each in fitted.noise]
    return document


def _noise_document(level: NoiseLevel) -> dict[str, Any]:
    """Errors against clean rows; `interval_coverage` of noisy ones, and of clean ones beside it."""
    found: dict[str, Any] = {"noise": level.noise_fraction}
    noisy = scores_document(level.against_noisy)
    for judged, by_regime in scores_document(level.against_clean).items():
        found[judged] = {
            regime: each
            | {
                "interval_coverage": noisy[judged][regime]["interval_coverage"],
                "interval_coverage_of_clean_rows": each["interval_coverage"],
            }
            for regime, each in by_regime.items()
        }
    return found
