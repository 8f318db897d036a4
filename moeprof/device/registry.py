"""The devices that a selector can name, opened without importing any of the others."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, cast

from moeprof.errors import DeviceUnavailable

if TYPE_CHECKING:
    from moeprof.device.protocol import Device

SELECTORS = "auto, cpu, cuda, cuda:N (such as cuda:0) or sim:GPU (such as sim:h200-sxm)"

_OPENERS = {
    "cpu": ("moeprof.device.cpu", "open_cpu"),
    "cuda": ("moeprof.device.cuda", "open_cuda"),
    "sim": ("moeprof.device.sim.device", "open_simulated"),
}
_SELECTOR = re.compile(r"(?P<kind>cpu|cuda|cuda:(?P<index>\d+)|sim:\S+)")


def open_device(selector: str, *, seed: int) -> Device:
    """Open the device that `selector` names; `auto` is the first GPU, else the CPU.

    A simulated device is opened only by name, never by `auto`; `seed` decides its noise and
    nothing on real devices.

    Raises:
        DeviceUnavailable: the selector is malformed, or no such device can be used here.

    """
    if selector == "auto":
        return _open_auto()
    found = _SELECTOR.fullmatch(selector)
    if found is None:
        message = f"{selector!r} names no device; it must be {SELECTORS}"
        raise DeviceUnavailable(message, hint="`moeprof doctor` lists what can be used here.")
    kind = found["kind"].partition(":")[0]
    module, name = _OPENERS[kind]
    opener = getattr(import_module(module), name)
    if kind == "sim":
        return cast("Device", opener(selector, seed=seed))
    if kind == "cuda":
        return cast("Device", opener(int(found["index"] or 0)))
    return cast("Device", opener())


def _open_auto() -> Device:
    try:
        return open_device("cuda:0", seed=0)
    except DeviceUnavailable:
        return open_device("cpu", seed=0)
