"""Whole numbers in a recording, however they were written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from moeprof.errors import TraceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INT32: Final = np.iinfo(np.int32)


def whole_numbers(told: str, found: Any) -> NDArray[Any]:
    """Return what a recording holds as a table; `told` names it for people.

    Raises TraceError: it is no table, or not of whole numbers.
    """
    try:
        table = torch.as_tensor(found)
        if not table.numel():
            table = table.to(torch.int64)  # an empty list is one of floats
        numbers: NDArray[Any] = table.numpy()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TraceError(
            f"{told} must be whole numbers, found {type(found).__name__}: {error}"
        ) from error
    if numbers.dtype.kind not in "iu":
        raise TraceError(
            f"{told} must be whole numbers, found {list(numbers.shape)} of {table.dtype}"
        )
    return numbers


def as_int32(told: str, numbers: NDArray[Any]) -> NDArray[np.int32]:
    """Return numbers in 32 bits, as traces keep them. Raises TraceError: one does not fit."""
    wrong = (numbers < _INT32.min) | (numbers > _INT32.max)
    if wrong.any():
        raise TraceError(
            f"{told} must lie in {_INT32.min}..{_INT32.max}, found {numbers[wrong].flat[0]}"
        )
    return numbers.astype(np.int32)


def pass_number(told: str, found: Any) -> int:
    """Return the number of a forward pass. Raises TraceError: it is none, or has over 32 bits."""
    numbers = as_int32(told, whole_numbers(told, found))
    if numbers.ndim:
        raise TraceError(f"{told} must be one number, found {list(numbers.shape)}")
    return int(numbers)
