"""The routers by name: those that come with moeprof, and those of other packages."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, cast

from moeprof.errors import WorkloadError

if TYPE_CHECKING:
    from moeprof.router.protocol import Router

ENTRY_POINT_GROUP = "moeprof.routers"

_BUILT_IN = {
    "top-k": ("moeprof.router.top_k", "TopK"),
}


def router_names() -> tuple[str, ...]:
    """Return the names of all routers, moeprof's own first."""
    return (*_BUILT_IN, *sorted(_third_party()))


def load_router(name: str) -> Router:
    """Import and make the router of this name.

    Raises WorkloadError: there is no such router.
    """
    if name in _BUILT_IN:
        module, attribute = _BUILT_IN[name]
        return cast("Router", getattr(import_module(module), attribute)())
    if entry := _third_party().get(name):
        return cast("Router", entry.load()())
    near = get_close_matches(name, router_names()) or router_names()
    raise WorkloadError(
        f"router {name!r} is not known; did you mean {' or '.join(near)}?",
        hint=f"Packages add routers through the entry-point group {ENTRY_POINT_GROUP}.",
    )


def _third_party() -> dict[str, EntryPoint]:
    # moeprof's own names cannot be taken by another package.
    found = entry_points(group=ENTRY_POINT_GROUP)
    return {entry.name: entry for entry in found if entry.name not in _BUILT_IN}
