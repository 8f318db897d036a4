"""What a machine tells of a step: its speed, its peak memory, and sensors now and then."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from moeprof.device.registry import open_device
from moeprof.training.machine import Machine


class Counted:
    """A device that counts how often its sensors are read."""

    def __init__(self) -> None:
        self.num_read = 0
        self._device = open_device("cpu", seed=0)

    def state(self) -> Any:
        self.num_read += 1
        return self._device.state()


def test_sensors_are_read_once_a_second_and_the_speed_at_every_step() -> None:
    device: Any = Counted()
    moments = iter([0.0, 0.25, 0.5, 1.0, 1.5])
    machine = Machine(device, torch.device("cpu"), clock=lambda: next(moments))

    readings = [machine.read(100) for _ in range(4)]

    assert [each.tokens_per_second for each in readings] == pytest.approx([400, 400, 200, 200])
    assert device.num_read == 2
    assert readings[-1].peak_bytes >= readings[0].peak_bytes > 2**20
