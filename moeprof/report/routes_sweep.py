"""What lambda of the bundled router does, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeprof.report.routes_grid import Grid
from moeprof.report.routes_words import latency_unit, millinats, percent, spread

if TYPE_CHECKING:
    from moeprof.report.routes_scene import SceneReport


def sweep_grid(report: SceneReport) -> Grid | None:
    """Return diversity, loss, latency and energy by lambda; None: nothing was swept."""
    if not report.swept:
        return None
    scale, unit, digits = latency_unit(report.swept[0].step_latency.estimate)
    is_live = report.runs.traffic == "live"
    return Grid(
        title=f"marginal-cost by λ, re-routed, {report.judged.hardware} hardware",
        heads=(
            "λ",
            "experts active, %",
            "Δ cross-entropy, 0.001 nats" if is_live else loss_words(report),
            f"mean, {unit}",
            "mJ/token",
        ),
        rows=tuple(
            (
                f"{row.value:g}",
                percent(row.diversity),
                millinats(row.loss) if is_live else percent(row.loss),
                spread(row.step_latency, scale=scale, digits=digits),
                spread(row.joules_per_token, scale=1e3, digits=2),
            )
            for row in report.swept
        ),
    )


def loss_words(report: SceneReport) -> str:
    """Return what is lost in quality, with its unit."""
    return "Δ cross-entropy, nats" if report.runs.traffic == "live" else "gate mass lost, %"
