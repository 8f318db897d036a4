"""Gates in words: a line for each, what was found and what it is held to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moeprof.evaluation.judge.gates import overall
from moeprof.recipe.gates import STORED
from moeprof.report.routes_grid import Grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moeprof.evaluation.judge.gates import GateJudged
    from moeprof.evaluation.judge.student import Estimated
    from moeprof.recipe.gates import MarginKey
    from moeprof.report.routes_scene import SceneReport

_MARGINS: Final[Mapping[MarginKey, str]] = {
    "at_most": "at most",
    "at_least": "at least",
    "at_most_ratio": "at most",
    "at_most_difference": "at most",
}
_DIGITS: Final = 4


def gate_line(gate: GateJudged, reports: Mapping[str, SceneReport]) -> str:
    """Return a gate's verdict, what it is about, and how many more seeds it would need."""
    return (
        f"{gate.verdict:<12} {gate.scene}: {gate.name}: {_about(gate, reports)}: {_what(gate)} "
        f"{_found(gate.found)}, must be {_margin(gate)}{_needs(gate, reports)}"
    )


def gates_grid(gates: Sequence[GateJudged], reports: Mapping[str, SceneReport]) -> Grid:
    """Return the gates as a table."""
    rows = tuple(
        (
            gate.verdict,
            gate.scene,
            gate.name,
            _about(gate, reports),
            _what(gate),
            _found(gate.found),
            _margin(gate) + _needs(gate, reports),
        )
        for gate in gates
    )
    heads = ("verdict", "scene", "gate", "claim", "figure", "found", "must be")
    return Grid(verdict_words(gates), heads, rows, num_texts=len(heads))


def verdict_words(gates: Sequence[GateJudged]) -> str:
    """Return the verdict over all gates, and how many have which."""
    counts = {each: sum(gate.verdict == each for gate in gates) for each in _verdicts(gates)}
    parts = ", ".join(f"{number} {verdict}" for verdict, number in counts.items())
    return f"gates: {overall(gates)} ({parts})"


def _verdicts(gates: Sequence[GateJudged]) -> tuple[str, ...]:
    found = {gate.verdict for gate in gates}
    return tuple(each for each in ("fail", "inconclusive", "pass") if each in found)


def _about(gate: GateJudged, reports: Mapping[str, SceneReport]) -> str:
    judged = reports[gate.scene].judged
    claim = next(each.claim for each in judged.policies if each.policy == gate.gate.policy)
    return f"{claim}, {judged.hardware}"


def _what(gate: GateJudged) -> str:
    asked = gate.gate
    words = f"{asked.metric} of {asked.policy}"
    if asked.against is None:
        return words
    other = "the stored result's" if asked.against == STORED else f"{asked.against}'s"
    return f"{words} {'less' if gate.gate.margin[0] == 'at_most_difference' else 'over'} {other}"


def _margin(gate: GateJudged) -> str:
    key, margin = gate.gate.margin
    return f"{_MARGINS[key]} {margin:g}"


def _found(found: Estimated) -> str:
    bounds = ("?" if each is None else f"{each:.{_DIGITS}g}" for each in (found.low, found.high))
    return f"{found.estimate:.{_DIGITS}g} [{', '.join(bounds)}]"


def _needs(gate: GateJudged, reports: Mapping[str, SceneReport]) -> str:
    if gate.verdict != "inconclusive":
        return ""
    if gate.num_more_seeds is None:
        return "; no number of seeds is known to tell"
    num_seeds = reports[gate.scene].judged.num_seeds + gate.num_more_seeds
    return f"; needs {gate.num_more_seeds} more seeds or so: --seeds {num_seeds}"
