from __future__ import annotations

import os
import signal

import pytest

from moeprof.sweep.meter import Interrupted, Meter
from moeprof.sweep.pace import Pace
from moeprof.sweep.stop import stop_on_signals


def test_launches_inside_a_purpose_belong_to_it_and_are_not_counted_twice() -> None:
    times = iter([0.0, 10.0])
    meter = Meter(lambda: next(times), lambda: False)

    with meter.spending("conditioning"):
        meter.spent("launches", 7.0)
    meter.spent("launches", 2.0)

    assert meter.seconds == {"conditioning": 10.0, "launches": 2.0}


def test_a_wish_to_stop_is_heard_at_the_next_check() -> None:
    with pytest.raises(Interrupted):
        Meter(lambda: 0.0, lambda: True).check()


def test_the_time_left_shrinks_with_every_point_and_forgets_one_long_warm_up() -> None:
    pace = Pace(5)
    assert pace.remaining_seconds() is None

    for seconds in (300.0, 2.0, 2.0):
        pace.finished(seconds)

    assert pace.remaining_seconds() == 2 * 2.0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_orders(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    with pytest.raises(KeyboardInterrupt), stop_on_signals() as asked:  # noqa: PT012 - in turn
        assert not asked()
        os.kill(os.getpid(), number)
        assert asked()
        os.kill(os.getpid(), number)
        pytest.fail("the second signal was not an order")

    assert signal.getsignal(number) is before
