"""Replica choice: which rank computes each slot of a routing, experts and weights untouched."""

from moeprof.router.dispatch.count import active_of_ranks, rows_of_experts, rows_of_ranks
from moeprof.router.dispatch.first import First
from moeprof.router.dispatch.least_loaded import LeastLoaded
from moeprof.router.dispatch.metro import Metro
from moeprof.router.dispatch.optimum import fewest_active_experts
from moeprof.router.dispatch.protocol import Dispatcher
from moeprof.router.dispatch.random_replica import RandomReplica
from moeprof.router.dispatch.registry import dispatcher_names, load_dispatcher
from moeprof.router.dispatch.replicas import Replicas, replica_tensors
from moeprof.router.dispatch.round_robin import RoundRobin

__all__ = [
    "Dispatcher",
    "First",
    "LeastLoaded",
    "Metro",
    "RandomReplica",
    "Replicas",
    "RoundRobin",
    "active_of_ranks",
    "dispatcher_names",
    "fewest_active_experts",
    "load_dispatcher",
    "replica_tensors",
    "rows_of_experts",
    "rows_of_ranks",
]
