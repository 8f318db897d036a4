"""What moeprof asks of an expert kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from moeprof.device.protocol import Device, DeviceIdentity, Work
    from moeprof.workload.workload import Workload

L2State = Literal["cold", "warm"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a kernel chose for one workload, for the record; None: there was nothing to choose.

    `kernel` is the inner kernel or variant, `version` that of the library it comes from, and
    `config_file` the name of the file of tuned settings that decided.
    """

    kernel: str | None = None
    version: str | None = None
    config_file: str | None = None


NO_CHOICE = Choice()


def choice_of(work: Work) -> Choice:
    """Return what bound work says of its choice, in an attribute `choice`."""
    return getattr(work, "choice", NO_CHOICE)


class Kernel(Protocol):
    """Gate and up projection, SwiGLU, and down projection of one rank's active experts."""

    name: str

    def refusal(self, workload: Workload, identity: DeviceIdentity) -> str | None:
        """Return why this workload cannot run on this device, or None if it can."""

    def bind(self, workload: Workload, device: Device, *, l2_state: L2State, seed: int) -> Work:
        """Allocate random weights and rows, and return them ready to be launched.

        Raises DeviceOutOfMemory where they do not fit, KernelUnsupported where `refusal` says so.
        """

    def versions(self) -> dict[str, str]:
        """Return the versions of the libraries that decide how fast this kernel is."""
