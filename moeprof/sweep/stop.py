"""Ctrl-C and a scheduler's TERM as a polite request, so that nothing is left half written."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether the user has asked to stop; a second time is an order.

    The first signal only raises a flag, which the sweep looks at between launches; the second
    raises KeyboardInterrupt wherever it finds the sweep.
    """
    asked = False

    def ask(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = {each: signal.signal(each, ask) for each in _SIGNALS}
    try:
        yield lambda: asked
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
