"""The routers by name: those that come with moeprof, and those of other packages."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from typing import TYPE_CHECKING, cast

from moeprof.errors import WorkloadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from moeprof.router.protocol import Router

ENTRY_POINT_GROUP = "moeprof.routers"

_BUILT_IN = {
    "top-k": ("moeprof.router.top_k", "TopK"),
    "random": ("moeprof.router.policies.random_experts", "RandomExperts"),
    "oea": ("moeprof.router.policies.oea", "OpportunisticExperts"),
    "lynx": ("moeprof.router.policies.lynx", "ConfidentExperts"),
    "xshare": ("moeprof.router.policies.xshare", "SharedExperts"),
    "laser": ("moeprof.router.policies.laser", "LeastLoadedExperts"),
    "capacity-drop": ("moeprof.router.policies.capacity_drop", "CapacityDrop"),
    "capacity-expanded": ("moeprof.router.policies.capacity_expanded", "CapacityExpanded"),
    "sere": ("moeprof.router.policies.sere", "SimilarExperts"),
    "marginal-cost": ("moeprof.router.marginal.router", "MarginalCost"),
    "logit-penalty": ("moeprof.router.policies.logit_penalty", "LogitPenalty"),
}


def router_names() -> tuple[str, ...]:
    """Return the names of all routers, moeprof's own first."""
    return (*_BUILT_IN, *sorted(_third_party()))


def load_router(name: str, **knobs: object) -> Router:
    """Import and make the router of this name, with its knobs; those left out have their defaults.

    Raises WorkloadError: there is no such router, it has no such knob, or a knob is out of range.
    """
    if name in _BUILT_IN:
        module, attribute = _BUILT_IN[name]
        return _made(name, getattr(import_module(module), attribute), knobs)
    if entry := _third_party().get(name):
        return _made(name, entry.load(), knobs)
    near = get_close_matches(name, router_names()) or router_names()
    raise WorkloadError(
        f"router {name!r} is not known; did you mean {' or '.join(near)}?",
        hint=f"Packages add routers through the entry-point group {ENTRY_POINT_GROUP}.",
    )


def _made(name: str, make: Callable[..., object], knobs: dict[str, object]) -> Router:
    # Asked for only where there are knobs: a class may have no signature that can be read.
    known = list(signature(make).parameters) if knobs else []
    for knob in knobs:
        if knob not in known:
            near = get_close_matches(knob, known, n=1)
            message = f"router {name}: has no knob {knob}"
            raise WorkloadError(
                f"{message}; did you mean {near[0]}?" if near else message,
                hint=f"Its knobs are {', '.join(known)}." if known else "It has no knobs.",
            )
    return cast("Router", make(**knobs))


def _third_party() -> dict[str, EntryPoint]:
    # moeprof's own names cannot be taken by another package.
    found = entry_points(group=ENTRY_POINT_GROUP)
    return {entry.name: entry for entry in found if entry.name not in _BUILT_IN}
