from __future__ import annotations

import pytest

from moeprof.errors import WorkloadError
from moeprof.router import load_router


def test_knobs_reach_the_router() -> None:
    assert load_router("oea", base_k=3).base_k == 3


def test_an_unknown_knob_is_refused_with_the_nearest() -> None:
    with pytest.raises(WorkloadError, match="router oea: has no knob basek; did you mean base_k"):
        load_router("oea", basek=3)


def test_a_knob_for_a_router_without_any_is_refused() -> None:
    with pytest.raises(WorkloadError, match="router top-k: has no knob base_k"):
        load_router("top-k", base_k=3)
