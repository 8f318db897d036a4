from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from moeprof.errors import WorkloadError
from moeprof.router import TopK, load_router, registry, router_names


class Elsewhere:
    """A router of another package."""


def add(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    entry = EntryPoint(name, f"{__name__}:Elsewhere", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: Elsewhere)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])


def test_the_models_own_top_k_is_a_router_by_name() -> None:
    assert "top-k" in router_names()
    assert isinstance(load_router("top-k"), TopK)


def test_every_router_that_is_named_can_be_made() -> None:
    for name in router_names():
        assert callable(load_router(name).route)


def test_another_package_adds_a_router(monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, "elsewhere")

    assert router_names()[-1] == "elsewhere"
    assert isinstance(load_router("elsewhere"), Elsewhere)


def test_another_package_cannot_take_a_name_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, "top-k")

    assert router_names().count("top-k") == 1
    assert isinstance(load_router("top-k"), TopK)


def test_an_unknown_router_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(WorkloadError, match="router 'topk' is not known; did you mean top-k"):
        load_router("topk")
