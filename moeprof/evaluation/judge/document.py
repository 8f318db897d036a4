"""A scene's judgement as JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moeprof.evaluation.judge.figures import Figures
    from moeprof.evaluation.judge.pareto import Duel, Front
    from moeprof.evaluation.judge.question import Choice, PowerAgainstPerformance
    from moeprof.evaluation.judge.student import Estimated
    from moeprof.evaluation.runs import Hardware

_NOTHING = 1e-14  # what sums in another order leave of 0


def scene_document(
    policies: Iterable[Figures],
    hardware: Hardware,
    fronts: Iterable[Front],
    question: PowerAgainstPerformance,
) -> dict[str, Any]:
    """Return the routers, the fronts and the question of a scene, ready for JSON."""
    document: dict[str, Any] = rounded(
        {
            "routers": {each.policy: _router(each, hardware) for each in policies},
            "pareto": [_front(front) for front in fronts],
            "power_versus_performance": _question(question),
        }
    )
    return document


def rounded(value: Any) -> Any:
    """Return a document with nine significant digits in its floats; what is not finite is None."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return 0.0 if abs(value) < _NOTHING else float(f"{value:.9g}")


def _router(figures: Figures, hardware: Hardware) -> dict[str, Any]:
    latency = figures.step_latency
    return {
        "setting": dict(figures.setting),
        "claim": figures.claim,
        "hardware": hardware,
        "step_latency_seconds": {
            "mean": latency.estimate,
            "p50": figures.p50_seconds,
            "p95": figures.p95_seconds,
            "p99": figures.p99_seconds,
            "low": latency.low,
            "high": latency.high,
        },
        "joules_per_token": _mean(figures.joules_per_token),
        "active_experts": figures.active_experts.estimate,
        "peak_celsius": figures.peak_celsius.estimate,
        "throttled_seconds": figures.throttled.estimate,
        "delta_cross_entropy_nats": _mean(figures.cross_entropy),
        "gate_mass_retained": figures.gate_mass_retained.estimate,
        "selections_changed_fraction": figures.selections_changed.estimate,
        "router_seconds": figures.router_seconds,
    }


def _mean(found: Estimated | None) -> dict[str, float | None] | None:
    if found is None:
        return None
    return {"mean": found.estimate, "low": found.low, "high": found.high}


def _bounds(found: Estimated | None) -> dict[str, float | None] | None:
    if found is None:
        return None
    return {"estimate": found.estimate, "low": found.low, "high": found.high}


def _front(front: Front) -> dict[str, Any]:
    return {
        "cost": front.cost_metric.removesuffix(".mean"),
        "quality_loss": front.quality_loss,
        "points": [
            {
                "policy": point.policy,
                "setting": dict(point.setting),
                "loss": _bounds(point.loss),
                "cost": _bounds(point.cost),
                "is_on_front": point.is_on_front,
            }
            for point in front.points
        ],
        "duels": [_duel(duel) for duel in front.duels],
    }


def _duel(duel: Duel) -> dict[str, Any]:
    return {
        "policy": duel.policy,
        "rival": duel.rival,
        "verdict": duel.verdict,
        "matches": [
            {
                "setting": dict(match.setting),
                "ratio": _bounds(match.ratio),
                "standing": match.standing,
            }
            for match in duel.matches
        ],
    }


def _question(question: PowerAgainstPerformance) -> dict[str, Any]:
    return {
        "verdict": question.answer,
        "reason": question.reason,
        "best_latency": _choice(question.best_latency),
        "best_energy": _choice(question.best_energy),
        "latency_regret": _bounds(question.latency_regret),
        "energy_regret": _bounds(question.energy_regret),
        "rank_correlation": question.rank_correlation,
        "num_settings": question.num_settings,
        "left_out": [
            {"policy": each.policy, "setting": dict(each.setting), "reason": each.reason}
            for each in question.left_out
        ],
    }


def _choice(choice: Choice | None) -> dict[str, Any] | None:
    if choice is None:
        return None
    return {
        "policy": choice.policy,
        "setting": dict(choice.setting),
        "step_latency_seconds": choice.step_latency_seconds,
        "joules_per_token": choice.mean_joules_per_token,
    }
