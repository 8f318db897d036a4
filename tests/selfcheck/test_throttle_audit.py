"""Claims about the audit of the throttle watch: good code passes it, each broken watch fails."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest

from moeprof.hardware import catalogue
from moeprof.measure import timing
from moeprof.measure.throttle import Throttling, throttling
from moeprof.record import THROTTLING_EVENTS, ThrottleEvent
from moeprof.selfcheck import throttle
from moeprof.selfcheck.check import random_of_trial
from moeprof.selfcheck.finding import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from moeprof.record import DeviceState
    from moeprof.selfcheck.finding import Finding

(CHECK,) = throttle.CHECKS
GPU = catalogue.gpu("h200-sxm")


def audited(num_trials: int, seed: int = 1) -> dict[str, Finding]:
    outcomes = [
        CHECK.trial(GPU, random_of_trial(seed, CHECK.name, index)) for index in range(num_trials)
    ]
    return {finding.name: finding for finding in CHECK.judge(outcomes)}


def trusting_bits(states: Sequence[DeviceState], known: Any, resumed: Any) -> Throttling:
    bits = [(state.clock_events or frozenset()) & THROTTLING_EVENTS for state in states]
    stretches: list[ThrottleEvent | None] = [None] * len(states)
    for told, run in groupby(range(len(states)), key=bits.__getitem__):
        indices = list(run)
        if told:
            at = [states[index].at_seconds for index in (indices[0], indices[-1])]
            event = ThrottleEvent(*at, min(told), told=True)
            stretches[indices[0] : indices[-1] + 1] = [event] * len(indices)
    events = dict.fromkeys(event for event in stretches if event is not None)
    return Throttling(tuple(events), tuple(stretches))


def flagging_all(states: Sequence[DeviceState], known: Any, resumed: Any) -> Throttling:
    event = ThrottleEvent(states[0].at_seconds, states[-1].at_seconds, None, told=False)
    return Throttling((event,), (event,) * len(states))


def never_naming(states: Sequence[DeviceState], known: Any, resumed: Any) -> Throttling:
    found = throttling(states, known, resumed)
    nameless = tuple(
        ThrottleEvent(each.start_seconds, each.end_seconds, None, told=False)
        for each in found.events
    )
    return Throttling(nameless, found.stretches)


def test_the_watch_keeps_its_promises() -> None:
    found = audited(16)

    assert {finding.verdict for finding in found.values()} == {Verdict.KEPT, Verdict.TOLD}
    assert tuple(found) == CHECK.figures
    assert found["throttle_recall"].num_trials >= 10
    assert found["throttle_time_error_seconds"].achieved < 0.02  # type: ignore[operator]


@pytest.mark.parametrize(
    ("watch", "num_trials", "broken"),
    [
        (
            trusting_bits,
            16,
            {"throttle_recall", "throttle_false_rate", "throttle_cause_accuracy"},
        ),
        (flagging_all, 6, {"throttle_false_rate", "throttle_cause_accuracy"}),
        (never_naming, 10, {"throttle_cause_accuracy"}),
    ],
)
def test_a_broken_watch_is_caught(
    watch: Callable[..., Throttling],
    num_trials: int,
    broken: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "throttling", watch)
    found = audited(num_trials)

    unkept = {
        name
        for name, finding in found.items()
        if finding.verdict in {Verdict.BROKEN, Verdict.INCONCLUSIVE}
    }
    assert unkept == broken
    assert Verdict.BROKEN in {found[name].verdict for name in broken}


def test_a_trial_depends_on_its_chance_alone() -> None:
    first, again, other = (
        CHECK.trial(GPU, random_of_trial(seed, CHECK.name, 3)) for seed in (5, 5, 6)
    )

    assert first == again
    assert first != other
