"""Machine code kept on disk, so that a variant is compiled once for every compiler and source."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from moeprof.kernel.cuda.compile import OPTIONS, Built, compile_variant, compiler_version
from moeprof.kernel.cuda.sources import source_text

if TYPE_CHECKING:
    from moeprof.kernel.cuda.variants import Variant

_VARIABLE = "MOEPROF_CACHE"


def cache_folder() -> Path:
    """Return where machine code is kept: under MOEPROF_CACHE, or else ~/.cache/moeprof."""
    named = os.environ.get(_VARIABLE)
    return (Path(named) if named else Path.home() / ".cache" / "moeprof") / "cubins"


def build(variant: Variant, architecture: str) -> Built:
    """Return a variant's machine code, from the cache where it is there and whole.

    Raises:
        KernelUnsupported: as `compile_variant`.

    """
    compiler = compiler_version()
    try:
        path = cache_folder() / f"{_key(variant, architecture, compiler)}.cubin"
    except RuntimeError:
        # A user without a home folder: every process builds for itself.
        return compile_variant(variant, architecture)
    if (kept := _read(path)) is not None:
        cubin, report = kept
        return Built(variant, architecture, cubin, report, compiler)
    built = compile_variant(variant, architecture)
    _write(path, built)
    return built


def _key(variant: Variant, architecture: str, compiler: str) -> str:
    decides = (source_text(variant, architecture), architecture, OPTIONS, compiler)
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:32]


def _read(path: Path) -> tuple[bytes, str] | None:
    """Return machine code and report; None where there is no file, or not what was written."""
    try:
        head, _, cubin = path.read_bytes().partition(b"\n")
        facts = json.loads(head)
        whole = facts["sha256"] == hashlib.sha256(cubin).hexdigest()
        return (cubin, str(facts["report"])) if whole else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(path: Path, built: Built) -> None:
    facts = {"sha256": hashlib.sha256(built.cubin).hexdigest(), "report": built.report}
    text = json.dumps(facts).encode() + b"\n" + built.cubin
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    except OSError:
        return  # a cache that cannot be written only costs time
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
        # Others that build the same thing see the whole file or none.
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
