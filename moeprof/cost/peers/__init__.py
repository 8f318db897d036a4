"""The methods that others predict costs with, to be judged beside the model on the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moeprof.cost.peers.boosted_trees import BoostedTrees
from moeprof.cost.peers.protocol import Fitted, Peer, Quantity
from moeprof.cost.peers.random_forest import RandomForest
from moeprof.cost.peers.roofline_datasheet import RooflineDatasheet
from moeprof.cost.peers.roofline_fitted import RooflineFitted
from moeprof.cost.peers.token_interpolation import TokenInterpolation

if TYPE_CHECKING:
    from collections.abc import Mapping

PEERS: Final[Mapping[str, Peer]] = {
    peer.name: peer
    for peer in (
        RooflineDatasheet(),
        RooflineFitted(),
        RandomForest(),
        TokenInterpolation(),
        BoostedTrees(),
    )
}

__all__ = ["PEERS", "Fitted", "Peer", "Quantity"]
