"""The same numbers at every run, and torch left as it was found."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def deterministic(place: torch.device) -> Iterator[None]:
    """Let the same steps inside give the same bits on a CPU, with as many threads.

    Without it gradients of gathered rows are added up in the order in which threads come by. A
    GPU computes in TF32 inside, and promises no bits.
    """
    if place.type != "cpu":
        before_precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        try:
            with torch.random.fork_rng(devices=[place]):
                yield
        finally:
            torch.set_float32_matmul_precision(before_precision)
        return
    before = torch.are_deterministic_algorithms_enabled()
    before_warn = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic  # its one setting is not in its types
    before_fill = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    # It would write every new tensor twice, to make a use of what is not written yet repeatable.
    memory.fill_uninitialized_memory = False
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=before_warn)
        memory.fill_uninitialized_memory = before_fill
