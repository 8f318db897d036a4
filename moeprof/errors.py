"""The exceptions that a user can cause or cure, each with the exit code it ends a command with."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """The documented exit codes of every command."""

    DONE = 0
    BUG = 1
    USAGE = 2
    INPUT = 3
    DEVICE = 4
    CONDITIONING = 5
    DATASET = 6
    FIT = 7
    GATE_FAILED = 10
    GATE_INCONCLUSIVE = 11
    INTERRUPTED = 130


class MoeprofError(Exception):
    """A mistake or a refusal that the user can do something about.

    The message says where, what was found and what would be right; `hint` says what to do.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.BUG

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(MoeprofError):
    """An option of the command line has a value that means nothing."""

    exit_code = ExitCode.USAGE


class InputError(MoeprofError):
    """An input file or a value in it is wrong."""

    exit_code = ExitCode.INPUT


class RecipeError(InputError):
    """A recipe is unreadable, has an unknown key, or an impossible value."""


class LossDiverged(RecipeError):  # noqa: N818 - what a training run can come to
    """A training recipe's loss grows without bound."""


class CatalogueError(InputError):
    """A model or GPU file is unreadable or a number in it has no source."""


class WorkloadError(InputError):
    """A layer, routing pattern or placement is impossible."""


class HardwareError(InputError):
    """A GPU is not in the catalogue or its specification is impossible."""


class ModelFileError(InputError):
    """A cost model's file is unreadable, unwritable, damaged, or of a newer format."""


class CheckpointError(InputError):
    """A Transformers model, or a checkpoint of one in training, is missing, damaged or unknown."""


class TextError(InputError):
    """A text to train on, or to trace, is missing, unreadable or empty."""


class TraceError(InputError):
    """A routing trace is unreadable, damaged, of a newer schema, or of another model."""


class ExtraMissing(MoeprofError):  # noqa: N818 - a state of the world, not an accident
    """The command needs a library that comes with an extra of moeprof."""

    exit_code = ExitCode.USAGE


class DeviceError(MoeprofError):
    """The device cannot do what is asked of it."""

    exit_code = ExitCode.DEVICE


class DeviceUnavailable(DeviceError):  # noqa: N818 - a state of the world, not an accident
    """The device asked for is not on this machine."""


class DeviceLost(DeviceError):  # noqa: N818
    """The device has stopped answering; no further point can be measured on it."""


class DeviceOutOfMemory(DeviceError):  # noqa: N818
    """The device has too little free memory for one point; the next point may still fit."""


class KernelUnsupported(DeviceError):  # noqa: N818
    """The kernel cannot run this workload on this device."""


class ConditioningError(MoeprofError):
    """The warm-up or temperature hold that a recipe asks for is impossible on this device."""

    exit_code = ExitCode.CONDITIONING


class StoppedAtOnce(MoeprofError):  # noqa: N818 - what the user asked for
    """The user has asked twice to stop."""

    exit_code = ExitCode.INTERRUPTED


class DatasetError(MoeprofError):
    """A dataset folder is unreadable, unwritable, damaged, or of a newer schema."""

    exit_code = ExitCode.DATASET


class FitError(MoeprofError):
    """The data cannot give what a cost model, or a judgement of one, needs."""

    exit_code = ExitCode.FIT
