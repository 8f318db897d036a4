from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from cost.tables import grid, law_seconds, row, table

from moeprof.cost.demand import ideal_seconds
from moeprof.cost.holdout import Holdout, splits
from moeprof.cost.peers import PEERS, Quantity
from moeprof.cost.points import points_from_table
from moeprof.cost.score import score
from moeprof.errors import FitError

if TYPE_CHECKING:
    from moeprof.cost.peers import Peer
    from moeprof.cost.points import Points

ALL = list(PEERS.values())
OF_WATTS = [peer for peer in ALL if Quantity.AVERAGE_WATTS in peer.quantities]
WITH_ROOFLINE = [PEERS[name] for name in ("roofline_datasheet", "roofline_fitted")]


def fine_grid() -> Points:
    tokens = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)
    rows = [row(hidden_size=512 * step, batch_size=each) for step in range(1, 9) for each in tokens]
    return points_from_table(table(rows))


def names(peer: Peer) -> str:
    return peer.name


def test_the_peers_are_those_that_reports_name() -> None:
    assert list(PEERS) == [
        "roofline_datasheet",
        "roofline_fitted",
        "random_forest",
        "token_interpolation",
        "lightgbm",
    ]


@pytest.mark.parametrize("peer", ALL, ids=names)
@pytest.mark.parametrize("kind", [Holdout.RANDOM, Holdout.TOKENS, Holdout.BEYOND, Holdout.SHAPE])
def test_predictions_are_finite_and_above_zero(peer: Peer, kind: Holdout) -> None:
    points = grid()
    split = splits(points, kind, seed=0)[0]

    fitted = peer.fit(points.take(split.train), law_seconds(points)[split.train])
    found = fitted.predict(points.take(split.test))

    assert found.shape == (split.test.sum(),)
    assert np.isfinite(found).all()
    assert (found > 0).all()


@pytest.mark.parametrize("peer", ALL, ids=names)
def test_the_same_rows_give_the_same_predictions(peer: Peer) -> None:
    points = grid()
    seconds = law_seconds(points)

    first, second = (peer.fit(points, seconds).predict(points) for _ in range(2))

    assert (first == second).all()


@pytest.mark.parametrize(
    ("name", "most"),
    [("roofline_fitted", 0.01), ("token_interpolation", 0.15), ("lightgbm", 0.15)],
)
def test_a_method_finds_a_law_that_it_can_express(name: str, most: float) -> None:
    points = fine_grid()
    seconds = law_seconds(points)
    (split,) = splits(points, Holdout.TOKENS, seed=0)

    fitted = PEERS[name].fit(points.take(split.train), seconds[split.train])

    found = score(seconds[split.test], fitted.predict(points.take(split.test)))
    assert found.median_ape_fraction < most


def test_a_forest_returns_nearly_what_it_has_seen() -> None:
    points = fine_grid()
    seconds = law_seconds(points)

    found = score(seconds, PEERS["random_forest"].fit(points, seconds).predict(points))

    assert found.median_ape_fraction < 0.1


@pytest.mark.parametrize("peer", OF_WATTS, ids=names)
def test_power_is_learned_in_watts(peer: Peer) -> None:
    points = grid()
    watts = 250 + 40 * np.log2(points.batch_size)

    fitted = peer.fit(points, watts, Quantity.AVERAGE_WATTS)

    assert score(watts, fitted.predict(points)).median_ape_fraction < 0.1


@pytest.mark.parametrize("peer", ALL, ids=names)
def test_rows_that_were_not_observed_are_refused(peer: Peer) -> None:
    points = grid()
    seconds = law_seconds(points)
    seconds[3] = np.nan

    with pytest.raises(FitError, match=r"row 3: .* finite and above 0, got nan"):
        peer.fit(points, seconds)
    with pytest.raises(FitError, match="at least 1 row"):
        peer.fit(points.take(np.arange(0)), seconds[:0])


@pytest.mark.parametrize("peer", WITH_ROOFLINE, ids=names)
def test_a_card_without_a_datasheet_is_refused_by_name(peer: Peer) -> None:
    unknown = row(device_kind="imported:some-card", device_name="Some Card")
    points = points_from_table(table([unknown] * 9))

    with pytest.raises(FitError, match="'imported:some-card': is not in the catalogue"):
        peer.fit(points, np.ones(9)).predict(points)


def test_trees_need_no_datasheet() -> None:
    unknown = {"device_kind": "imported:some-card", "device_name": "Some Card"}
    points = grid(**unknown)
    seconds = law_seconds(grid())

    found = PEERS["lightgbm"].fit(points, seconds).predict(points)

    assert np.isfinite(found).all()


def test_a_kernel_that_was_not_fitted_has_the_constants_of_all() -> None:
    points = grid()
    fitted = PEERS["roofline_fitted"].fit(points, law_seconds(points))
    other = grid(kernel="cutlass")

    assert fitted.predict(other) == pytest.approx(law_seconds(other), rel=0.05)


def test_the_datasheet_is_the_roofline_itself() -> None:
    points = grid()
    fitted = PEERS["roofline_datasheet"].fit(points, law_seconds(points))

    assert (fitted.predict(points) == ideal_seconds(points)).all()
