"""Claims about the names of points and runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from dataset.examples import DEVICE, WORKLOAD

from moeprof.dataset.identity import point_id, run_id

if TYPE_CHECKING:
    from moeprof.workload.workload import Workload


def name(workload: Workload = WORKLOAD, **changes: Any) -> str:
    condition: dict[str, Any] = {
        "hold_celsius": 55.0,
        "l2_state": "cold",
        "kernel": "reference",
        "device_kind": "cuda",
    }
    return point_id(workload, **(condition | changes))


def test_a_point_keeps_its_name_for_ever() -> None:
    assert name() == "6bef0def467ac4a4"


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"weight_dtype": "fp8"},
        {"activation_dtype": "fp16"},
        {"batch_size": 5},
        {"routing_pattern": "balanced"},
        {"routing_seed": 8},
        {"placement": "random"},
        {"ep_size": 4},
        {"ep_rank": 1},
        {"tp_size": 2},
        {"layer": replace(WORKLOAD.layer, hidden_size=65)},
        {"layer": replace(WORKLOAD.layer, expert_size=97)},
        {"layer": replace(WORKLOAD.layer, num_experts=9)},
        {"layer": replace(WORKLOAD.layer, top_k=3)},
    ],
    ids=str,
)
def test_another_workload_is_another_point(change: dict[str, Any]) -> None:
    assert name(replace(WORKLOAD, **change)) != name()


@pytest.mark.parametrize(
    "change",
    [
        {"hold_celsius": None},
        {"hold_celsius": 56.0},
        {"l2_state": "warm"},
        {"kernel": "triton"},
        {"device_kind": "cpu"},
        {"replay_digest": "ab"},
    ],
    ids=str,
)
def test_another_condition_is_another_point(change: dict[str, Any]) -> None:
    assert name(**change) != name()


def test_planning_needs_no_routing_to_be_drawn() -> None:
    assert name(replace(WORKLOAD, rows_per_expert=())) == name()


def test_a_recording_is_known_by_its_content_wherever_it_is() -> None:
    here = replace(WORKLOAD, routing_pattern="replay:/a/trace.npy")
    there = replace(WORKLOAD, routing_pattern="replay:/b/trace.npy")

    assert name(here, replay_digest="ab") == name(there, replay_digest="ab")
    assert name(here, replay_digest="ab") != name(here, replay_digest="cd")


def test_a_whole_temperature_is_the_same_as_an_integer_and_as_a_float() -> None:
    assert name(hold_celsius=55) == name(hold_celsius=55.0)


def run(**changes: Any) -> str:
    parts: dict[str, Any] = {
        "recipe": {"b": [1, 2], "a": None},
        "seed": 7,
        "device": DEVICE,
        "kernel_versions": {"reference": {"torch": "2.9"}},
        "moeprof_version": "0.1.0",
    }
    return run_id(**(parts | changes))


def test_the_same_command_finds_the_same_run() -> None:
    assert run() == run(recipe={"a": None, "b": [1, 2]})
    assert len(run()) == 12


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": {"b": [1], "a": None}},
        {"seed": 8},
        {"device": replace(DEVICE, uuid="SIM-1")},
        {"device": replace(DEVICE, versions={"driver": "570"})},
        {"kernel_versions": {"reference": {"torch": "2.10"}}},
        {"moeprof_version": "0.2.0"},
    ],
    ids=str,
)
def test_another_command_device_or_version_is_another_run(change: dict[str, Any]) -> None:
    assert run(**change) != run()
