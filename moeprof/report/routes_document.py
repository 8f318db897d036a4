"""A comparison of routers as one JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moeprof.evaluation.judge.gates import overall

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moeprof.evaluation.judge.gates import GateJudged
    from moeprof.report.routes_scene import SceneReport


def routes_document(reports: Sequence[SceneReport], gates: Sequence[GateJudged]) -> dict[str, Any]:
    """Return scenes by name, gates in their order, and the verdict; None: there was no gate."""
    return {
        "scenes": {each.judged.scene: each.judged.document() for each in reports},
        "gates": [gate.document() for gate in gates],
        "verdict": overall(gates) if gates else None,
    }
