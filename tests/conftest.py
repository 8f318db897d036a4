"""Tests marked `gpu` are skipped where there is no GPU; CI draws the same cases every time."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# No deadlines: machines are shared. In CI the same cases every time: a change is judged by what it
# changes. Elsewhere other cases at every run: they find what nobody thought of.
settings.register_profile("moeprof", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("moeprof")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch  # noqa: PLC0415 - seconds that runs without such tests need not wait

    if torch.cuda.is_available():
        return
    for item in marked:
        item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
