"""Claims about a power reading that averages less, or more, than the time between its updates."""

from __future__ import annotations

import pytest
from device.sim import bench

PERIOD_SECONDS = 0.1


def reading_after_load(
    loaded_seconds: float, *, window_seconds: float, lag_seconds: float
) -> float:
    """Return the share of load that the reading at the update at 1.0 s shows.

    Load began `loaded_seconds` before that update.
    """
    truth = bench.quiet_truth(
        power_update_seconds=PERIOD_SECONDS,
        power_window_seconds=window_seconds,
        power_lag_seconds=lag_seconds,
        power_gain_error_fraction=0.0,
    )
    device = bench.device(truth)
    program = device.prepare(bench.work())
    device.sleep(1.0 - loaded_seconds)
    idle_watts = device.state().watts
    start_joules, start_seconds = device._body.joules, device.now()
    program.run(1.01 - device.now())
    loaded_watts = (device._body.joules - start_joules) / (device.now() - start_seconds)
    watts = device.state().watts
    assert watts is not None
    assert idle_watts is not None
    return (watts - idle_watts) / (loaded_watts - idle_watts)


@pytest.mark.parametrize(
    ("loaded_seconds", "window_seconds", "lag_seconds", "share"),
    [
        (0.0125, 0.025, 0.0, 0.5),  # part-time: a quarter of the period is looked at
        (0.05, 0.025, 0.0, 1.0),
        (0.05, 0.1, 0.0, 0.5),
        (0.05, 0.2, 0.0, 0.25),  # a window over several updates
        (0.05, 0.025, 0.05, 0.0),
        (0.0625, 0.025, 0.05, 0.5),
        (0.005, 0.01, 0.0, 0.5),
    ],
)
def test_a_reading_is_the_mean_of_its_window_before_its_lag(
    loaded_seconds: float, window_seconds: float, lag_seconds: float, share: float
) -> None:
    seen = reading_after_load(
        loaded_seconds, window_seconds=window_seconds, lag_seconds=lag_seconds
    )

    assert seen == pytest.approx(share, abs=0.03)


def test_a_reading_stays_the_same_until_its_next_update() -> None:
    device = bench.device(bench.quiet_truth(power_update_seconds=PERIOD_SECONDS))
    program = device.prepare(bench.work())
    values = set()
    device.sleep(1.0)

    for _ in range(90):
        program.run(0.001)
        values.add(device.state().watts)

    assert len(values) == 1
