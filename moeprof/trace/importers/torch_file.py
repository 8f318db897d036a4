"""The reading of a file that torch.save wrote, as data and never as a program."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import torch

from moeprof.errors import TraceError

if TYPE_CHECKING:
    from pathlib import Path


def read_torch_file(path: Path) -> Any:
    """Return what a file holds: tensors, numbers and texts in lists and dictionaries.

    Raises TraceError: it is missing, damaged, or holds what would have to be run to be read.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise TraceError(
            f"{path}: refused, because it holds more than tensors, numbers and texts: "
            f"{str(error).splitlines()[0]}",
            hint="A pickle can run any program. Save the recording again from plain tensors.",
        ) from error
    except Exception as error:  # what a damaged file raises there is not documented
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TraceError(
            f"{path}: must be a file that torch.save wrote, found: {found}",
            hint="Copy it again; a recording that was cut off cannot be read.",
        ) from error
