"""Tables and lines of what a fitted cost model was found to be worth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from rich.table import Table

from moeprof.cost.assess import OWN_NAME
from moeprof.cost.held_out import Judged
from moeprof.report import human

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from moeprof.cost.assess import Assessment
    from moeprof.cost.fitting import FittedCost
    from moeprof.cost.noise import NoiseLevel
    from moeprof.cost.score import Score

_REGIMES: Final = {
    "all": "all",
    "decode": "up to 256 tokens",
    "beyond": "above 256 tokens",
    "outside": "outside the fitted range",
}
_ERRORS: Final = ("median", "mean", "p90", "bias", "in interval")
_NOISE_ERRORS: Final = ("median", "mean", "p90", "noisy in interval", "clean in interval")


def scores_table(assessment: Assessment) -> Table | None:
    """Return the errors of all methods, by quantity and regime; None: nothing was held out."""
    if not assessment.methods:
        return None
    title = f"errors on rows held out: {assessment.holdout.value}"
    table = _table(title, ("rows", "method"), _ERRORS)
    for judged in Judged:
        for regime, words in _REGIMES.items():
            found = {
                name: scores[judged][regime]
                for name, scores in assessment.methods.items()
                if regime in scores.get(judged, {}) and not _is_all(scores[judged], regime)
            }
            for place, (name, score) in enumerate(found.items()):
                head = f"{judged.value}, {words}: {score.num_rows:,}" if not place else ""
                style = "bold" if name == OWN_NAME else None
                table.add_row(head, name, *_cells(score), style=style)
            table.add_section()
    return table


def noise_table(levels: Sequence[NoiseLevel]) -> Table | None:
    """Return the model's errors and coverage by noise and quantity; None: there was no study."""
    if not levels:
        return None
    title = "errors on clean rows, after fits to noisy ones"
    table = _table(title, ("quantity", "noise"), _NOISE_ERRORS)
    for judged in Judged:
        for level in levels:
            if judged not in level.against_clean:
                continue
            clean, noisy = level.against_clean[judged]["all"], level.against_noisy[judged]["all"]
            table.add_row(
                judged.value,
                human.percent(level.noise_fraction, digits=1),
                *_cells(clean)[:3],
                human.percent(noisy.interval_coverage_fraction, digits=1),
                human.percent(clean.interval_coverage_fraction, digits=1),
            )
        table.add_section()
    return table


def fit_lines(fitted: FittedCost) -> Iterator[str]:
    """Return what else is to be known of a fit: its rows, what failed, what is not identified."""
    gathered, assessment = fitted.gathered, fitted.assessment
    provenance = fitted.model.provenance
    sources = ", ".join(provenance.sources)
    yield f"fitted to {len(gathered.points):,} {sources} rows in {fitted.fit_seconds:.1f} s"
    yield from (f"  {words}" for words in provenance.datasets)
    if "simulated" in provenance.sources:
        yield "SIMULATED: this model says nothing about a real GPU"
    if gathered.num_drift_corrected:
        yield f"latencies corrected for drift by their sentinels: {gathered.num_drift_corrected:,}"
    for status, number in gathered.num_left_out.items():
        yield f"left out: {number:,} rows, {status}"
    if not assessment.methods:
        yield "not judged: --holdout none"
    for name, why in assessment.failed.items():
        yield f"{name}: not judged: {why}"
    if provenance.not_identified:
        yield f"not identified: {', '.join(provenance.not_identified)}"


def _table(title: str, heads: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in heads:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _is_all(scores: Mapping[str, Score], regime: str) -> bool:
    """Whether a regime is but another name for all rows."""
    return regime != "all" and scores[regime].num_rows == scores["all"].num_rows


def _cells(score: Score) -> tuple[str, ...]:
    return (
        *(
            _percent(each)
            for each in (score.median_ape_fraction, score.mean_ape_fraction, score.p90_ape_fraction)
        ),
        _percent(score.bias_fraction, sign="+"),
        human.percent(score.interval_coverage_fraction, digits=1),
    )


def _percent(fraction: float, sign: str = "") -> str:
    return "infinite" if math.isinf(fraction) else f"{fraction * 100:{sign}.1f} %"
