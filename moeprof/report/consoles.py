"""The streams that commands print on, for people and for programs."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

_PIPED_WIDTH = 160


def console_on(stream: Any) -> Console:
    """Return a console that prints texts as they are."""
    # A pipe has no width: rich would fold tables at 80 columns.
    width = None if stream.isatty() else _PIPED_WIDTH
    # Names of layers and folders may hold brackets, which are not markup.
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document on stdout; every number in it must be finite."""
    sys.stdout.write(json.dumps(document, allow_nan=False) + "\n")
