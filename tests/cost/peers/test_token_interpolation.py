from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cost.tables import row, table

from moeprof.cost.peers import PEERS, Quantity
from moeprof.cost.points import Points, points_from_table

PEER = PEERS["token_interpolation"]


def curve(*tokens: int, **changes: Any) -> Points:
    return points_from_table(table([row(batch_size=each, **changes) for each in tokens]))


def test_a_measured_point_is_returned_as_it_is() -> None:
    points = curve(1, 4, 16)
    seconds = np.array([3e-5, 5e-5, 9e-5])

    assert (PEER.fit(points, seconds).predict(points) == seconds).all()


def test_of_repeats_the_median_counts() -> None:
    fitted = PEER.fit(curve(4, 4, 4), np.array([3e-5, 9e-5, 4e-5]))

    assert fitted.predict(curve(4)).tolist() == [4e-5]


def test_between_two_points_latency_is_linear_in_tokens() -> None:
    fitted = PEER.fit(curve(10, 20), np.array([1e-4, 2e-4]))

    assert fitted.predict(curve(10, 13, 20)) == pytest.approx([1e-4, 1.3e-4, 2e-4])


def test_outside_the_share_of_the_roofline_is_held() -> None:
    # From 1 to 8 tokens the experts counted, and with them the bytes, grow with the tokens.
    fitted = PEER.fit(curve(4, 8), np.array([4e-5, 8e-5]))

    assert fitted.predict(curve(2, 1)) == pytest.approx([2e-5, 1e-5])


def test_power_outside_is_that_of_the_last_point() -> None:
    fitted = PEER.fit(curve(4, 8), np.array([300.0, 400.0]), Quantity.AVERAGE_WATTS)

    assert fitted.predict(curve(1, 6, 900)) == pytest.approx([300, 350, 400])


def test_a_shape_without_a_curve_takes_the_nearest_one_s_share_of_the_roofline() -> None:
    near, far = curve(1, 16, expert_size=1024), curve(1, 16, expert_size=8192)
    points = points_from_table(
        table(
            [
                row(batch_size=tokens, expert_size=size)
                for size in (1024, 8192)
                for tokens in (1, 16)
            ]
        )
    )
    ideal = PEERS["roofline_datasheet"].fit(near, np.ones(2))
    seconds = np.concatenate([2 * ideal.predict(near), 5 * ideal.predict(far)])
    wanted = curve(1, 16, expert_size=1536)

    found = PEER.fit(points, seconds).predict(wanted)

    assert found == pytest.approx(2 * ideal.predict(wanted))


def test_another_pattern_of_the_same_shape_is_nearer_than_another_shape() -> None:
    points = points_from_table(
        table([row(routing_pattern="strided"), row(routing_pattern="balanced", expert_size=1024)])
    )

    found = PEER.fit(points, np.array([1e-4, 7e-4])).predict(curve(16))

    assert found == pytest.approx([1e-4])
