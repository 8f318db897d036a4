"""Brings in Transformers, which comes with the extra `hf`, and keeps it quiet."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from moeprof.errors import ExtraMissing

if TYPE_CHECKING:
    from collections.abc import Iterator


def transformers() -> Any:
    """Return the module `transformers`.

    Raises ExtraMissing: it, or what it needs, is not installed.
    """
    return _module("transformers")


def safetensors() -> Any:
    """Return the module `safetensors`.

    Raises ExtraMissing: it is not installed.
    """
    return _module("safetensors")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars, log lines and warnings of Transformers off stderr within the block."""
    log = transformers().utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(log.CRITICAL)
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ExtraMissing(
            f"{name} cannot be imported: {error}", hint="pip install 'moeprof[hf]'"
        ) from error
