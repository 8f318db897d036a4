"""The die temperature read in spite of sensors that drop a reading now and then."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moeprof.device.protocol import Device
    from moeprof.record import DeviceState

_NUM_RETRIES = 5
_RETRY_SECONDS = 0.02


def read_die(device: Device, state: DeviceState | None = None) -> DeviceState:
    """Return a reading with a die temperature; without one only if several reads in a row failed.

    `state`, if given, is a reading that the caller has just made. Raises DeviceLost.
    """
    state = state or device.state()
    for _ in range(_NUM_RETRIES):
        if state.die_celsius is not None:
            break
        device.sleep(_RETRY_SECONDS)
        state = device.state()
    return state


def no_reading(state: DeviceState) -> str:
    """Return the reason why a reading has no die temperature."""
    return state.absent.get("die_celsius", "the device has no die temperature sensor")
