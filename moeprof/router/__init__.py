"""Routing policies: gate logits, with what is known of the GPUs, into experts and weights."""

from moeprof.gate.rule import GateRule, Routing
from moeprof.router.patch import patch, patch_forever, unpatch
from moeprof.router.protocol import Router, RoutingContext
from moeprof.router.registry import load_router, router_names
from moeprof.router.telemetry import GpuReading, Telemetry
from moeprof.router.top_k import TopK

__all__ = [
    "GateRule",
    "GpuReading",
    "Router",
    "Routing",
    "RoutingContext",
    "Telemetry",
    "TopK",
    "load_router",
    "patch",
    "patch_forever",
    "router_names",
    "unpatch",
]
