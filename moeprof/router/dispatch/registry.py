"""The dispatchers by name: those that come with moeprof, and those of other packages."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, cast

from moeprof.errors import WorkloadError

if TYPE_CHECKING:
    from moeprof.router.dispatch.protocol import Dispatcher

ENTRY_POINT_GROUP = "moeprof.dispatchers"

_BUILT_IN = {
    "first": ("moeprof.router.dispatch.first", "First"),
    "random": ("moeprof.router.dispatch.random_replica", "RandomReplica"),
    "round-robin": ("moeprof.router.dispatch.round_robin", "RoundRobin"),
    "least-loaded": ("moeprof.router.dispatch.least_loaded", "LeastLoaded"),
    "metro": ("moeprof.router.dispatch.metro", "Metro"),
    "marginal-cost": ("moeprof.router.dispatch.marginal", "MarginalDispatch"),
}


def dispatcher_names() -> tuple[str, ...]:
    """Return the names of all dispatchers, moeprof's own first."""
    return (*_BUILT_IN, *sorted(_third_party()))


def load_dispatcher(name: str) -> Dispatcher:
    """Import and make the dispatcher of this name.

    Raises WorkloadError: there is no such dispatcher.
    """
    if name in _BUILT_IN:
        module, attribute = _BUILT_IN[name]
        return cast("Dispatcher", getattr(import_module(module), attribute)())
    if entry := _third_party().get(name):
        return cast("Dispatcher", entry.load()())
    near = get_close_matches(name, dispatcher_names()) or dispatcher_names()
    raise WorkloadError(
        f"dispatcher {name!r} is not known; did you mean {' or '.join(near)}?",
        hint=f"Packages add dispatchers through the entry-point group {ENTRY_POINT_GROUP}.",
    )


def _third_party() -> dict[str, EntryPoint]:
    # moeprof's own names cannot be taken by another package.
    found = entry_points(group=ENTRY_POINT_GROUP)
    return {entry.name: entry for entry in found if entry.name not in _BUILT_IN}
