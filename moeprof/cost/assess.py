"""The model and the peers' methods judged on the same rows, none of which their fits had seen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.held_out import Steps, held_out, model_method, peer_method
from moeprof.cost.holdout import Holdout, splits
from moeprof.errors import FitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moeprof.cost.held_out import Fit, Judged, Method, OnStep, Rows
    from moeprof.cost.points import Points
    from moeprof.cost.score import Score

OWN_NAME: Final = "moeprof"

# Grown until rows can no longer be told apart, which takes as long as all other methods together.
# A sample of the rows would be quicker, and no comparison: fitted to 10,000 instead of 40,000 rows
# of H200 / vLLM 0.24.0, its median error at others of the table doubles (8.3 % for 4.0 %).
_SLOW_NAME: Final = "random_forest"
_LEAST_SHAPES: Final = 5
_LEAST_BATCH_SIZES: Final = 5  # every second is held out, and a fit needs three


class Peers(StrEnum):
    """Which of the peers' methods are judged: all, those that are quickly fitted, or none."""

    ALL = "all"
    FAST = "fast"
    NONE = "none"


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """Errors of each method by quantity and regime, over the rows of `num_splits` splits.

    `failed` has the reason of each method that was not judged.
    """

    holdout: Holdout
    num_splits: int
    methods: Mapping[str, Mapping[Judged, Mapping[str, Score]]]
    failed: Mapping[str, str]


def default_holdout(points: Points) -> Holdout:
    """Return the hardest thing to hold out that the points allow: shapes, batch sizes, or rows."""
    sizes = (points.hidden_size, points.expert_size, points.num_experts, points.top_k)
    if len(np.unique(np.stack(sizes, axis=-1), axis=0)) >= _LEAST_SHAPES:
        return Holdout.SHAPE
    if len(np.unique(points.batch_size)) >= _LEAST_BATCH_SIZES:
        return Holdout.TOKENS
    return Holdout.RANDOM


def assess(
    rows: Rows,
    fit: Fit,
    *,
    holdout: Holdout,
    seed: int,
    peers: Peers = Peers.ALL,
    on_step: OnStep = lambda *_: None,
) -> Assessment:
    """Return the errors of the model that `fit` makes, and of the peers, on rows held out.

    Every method is fitted to the same rows of each split. A peer that cannot be is named in
    `failed`.

    Raises:
        FitError: the rows cannot be split so, or a split leaves the model too few.

    """
    parts = splits(rows.points, holdout, seed)
    methods = {OWN_NAME: model_method(fit), **_peers(peers)}
    steps = Steps(on_step, len(methods) * len(parts))
    found: dict[str, Mapping[Judged, Mapping[str, Score]]] = {}
    failed = {_SLOW_NAME: "slow, and only the fast ones were wanted"} if peers is Peers.FAST else {}
    for name, method in methods.items() if parts else ():
        try:
            found[name] = held_out(method, rows, parts, partial(steps.begin, name)).scores(rows)
        except FitError as error:
            if name == OWN_NAME:
                raise
            failed[name] = error.message
    return Assessment(holdout, len(parts), found, failed)


def _peers(peers: Peers) -> dict[str, Method]:
    if peers is Peers.NONE:
        return {}
    from moeprof.cost.peers import PEERS  # noqa: PLC0415 - LightGBM takes a while to load

    return {
        name: peer_method(peer)
        for name, peer in PEERS.items()
        if peers is Peers.ALL or name != _SLOW_NAME
    }
