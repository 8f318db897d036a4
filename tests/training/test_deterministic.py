"""Torch is left as it was found."""

from __future__ import annotations

import pytest
import torch

from moeprof.training.deterministic import deterministic


@pytest.mark.parametrize("warn_only", [True, False])
def test_settings_and_random_state_are_given_back(warn_only: bool) -> None:  # noqa: FBT001
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    state = torch.get_rng_state()
    try:
        with deterministic(torch.device("cpu")):
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
            torch.rand(3)
        found = torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)

    assert found is warn_only
    assert torch.equal(torch.get_rng_state(), state)


def test_algorithms_are_deterministic_inside_and_not_after() -> None:
    with deterministic(torch.device("cpu")):
        assert torch.are_deterministic_algorithms_enabled()

    assert not torch.are_deterministic_algorithms_enabled()
