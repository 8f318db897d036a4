"""Claims about what telemetry costs."""

from __future__ import annotations

from typing import Any

import pytest

from moeprof.errors import HardwareError
from moeprof.evaluation.channel import READING_BYTES, telemetry_bytes, telemetry_seconds
from moeprof.hardware.gpu import GPU, Link
from moeprof.recipe.scene import LinkSection, TelemetrySection

LINKS = LinkSection(
    scale_up_seconds=5e-6,
    scale_out_seconds=12e-6,
    scale_up_bytes_per_second=4e9,
    scale_out_bytes_per_second=1e9,
)
BARE = GPU("bare", (), {"bf16": 1e12}, 1e12, 2**30)


def seconds(num_gpus: int, num_nodes: int, links: LinkSection = LINKS, **section: Any) -> float:
    return telemetry_seconds(
        TelemetrySection(**section), links, BARE, num_gpus=num_gpus, num_nodes=num_nodes
    )


def test_a_reading_is_seven_floats_and_a_number() -> None:
    assert READING_BYTES == 4 * 7 + 4
    assert telemetry_bytes(TelemetrySection(), 8) == 7 * 32
    assert telemetry_bytes(TelemetrySection(), 1) == 0
    assert telemetry_bytes(TelemetrySection(kind="none"), 8) == 0


def test_riding_along_costs_bytes_and_no_start() -> None:
    # By hand: 3 readings of 32 bytes at 4 GB/s.
    assert seconds(4, 1) == pytest.approx(96 / 4e9)


def test_a_message_of_its_own_starts_up_once() -> None:
    assert seconds(4, 1, transport="message") == pytest.approx(5e-6 + 96 / 4e9)


def test_across_nodes_the_slower_link_and_the_longer_start_count() -> None:
    # By hand: 8 GPUs on 2 nodes; 3 near at 4 GB/s, 4 far at 1 GB/s, at the same time.
    assert seconds(8, 2) == pytest.approx(4 * 32 / 1e9)
    assert seconds(8, 2, transport="message") == pytest.approx(12e-6 + 4 * 32 / 1e9)
    assert seconds(2, 2, transport="message") == pytest.approx(12e-6 + 32 / 1e9)


@pytest.mark.parametrize("transport", ["piggyback", "message"])
def test_nobody_to_tell_or_nothing_told_costs_nothing(transport: str) -> None:
    assert seconds(1, 1, transport=transport) == 0
    assert seconds(8, 2, transport=transport, kind="none") == 0


def test_a_message_is_never_cheaper_than_riding_along() -> None:
    for num_gpus, num_nodes in ((2, 1), (8, 1), (16, 2), (64, 8)):
        assert seconds(num_gpus, num_nodes, transport="message") > seconds(num_gpus, num_nodes)


def test_links_that_the_scene_leaves_out_are_the_specifications() -> None:
    gpu = GPU(
        *("linked", (), {"bf16": 1e12}, 1e12, 2**30),
        scale_up=Link("NVLink", 4e9),
        scale_out=Link("InfiniBand", 1e9),
    )
    section = TelemetrySection()

    for size in ({"num_gpus": 8, "num_nodes": 2}, {"num_gpus": 8, "num_nodes": 1}):
        found = telemetry_seconds(section, LinkSection(), gpu, **size)
        assert found == telemetry_seconds(section, LINKS, BARE, **size)


def test_a_link_that_nobody_knows_is_named() -> None:
    with pytest.raises(HardwareError, match=r"'bare': scale_out must be known") as refusal:
        seconds(8, 2, LinkSection(scale_up_bytes_per_second=1e9))

    assert "links.scale_out_bytes_per_second" in (refusal.value.hint or "")
