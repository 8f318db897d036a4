"""The instructions of a kernel's machine code, as nvdisasm lists them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from moeprof.errors import ExtraMissing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from moeprof.kernel.cuda.compile import Built

_TOOL = "nvdisasm"
_MINUTE_SECONDS = 60.0
# `/*0010*/  @!P0 LDG.E.128 R4, desc[UR4][R2.64] ;`
_INSTRUCTION: Final = re.compile(
    r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.MULTILINE
)
_PADDING = "NOP"


@dataclass(frozen=True, slots=True)
class Instructions:
    """How often each instruction stands in a kernel, by its full name as `LDG.E.128.CONSTANT`."""

    counts: Mapping[str, int]

    @property
    def total(self) -> int:
        """All instructions, without the padding at the end."""
        return sum(self.counts.values())

    def count(self, pattern: str) -> int:
        """Return how many instructions match: see `matches`."""
        return sum(number for name, number in self.counts.items() if matches(name, pattern))


# What a table shows of a kernel, by heading.
KINDS: Final = {
    "LDG.128": ("LDG.128", "LDG.256"),  # Blackwell has loads of 256 bits
    "LDGSTS": ("LDGSTS",),
    "bulk": ("UBLKCP", "UTMALDG"),
    "LDSM": ("LDSM",),
    "HMMA": ("HMMA",),
    "HGMMA": ("HGMMA",),
    "QMMA": ("QMMA",),
    "QGMMA": ("QGMMA",),
    "LDL": ("LDL",),
    "STL": ("STL",),
    "BAR": ("BAR",),
}


def matches(name: str, pattern: str) -> bool:
    """Return whether an instruction is of a kind.

    `LDGSTS.E.128` is every LDGSTS with the modifiers E and 128, whatever stands between them;
    `HGMMA.64x` every HGMMA with a modifier that begins with 64x.
    """
    (kind, *modifiers), (wanted, *others) = name.split("."), pattern.split(".")
    return kind == wanted and all(
        any(modifier.startswith(other) for modifier in modifiers) for other in others
    )


def mix(instructions: Instructions) -> dict[str, int]:
    """Return how many instructions there are of each of `KINDS`, and `total`."""
    counts = {
        kind: sum(instructions.count(pattern) for pattern in patterns)
        for kind, patterns in KINDS.items()
    }
    return {**counts, "total": instructions.total}


def instructions_of(built: Built) -> Instructions:
    """Return the instructions of the variant's entry. Raises ExtraMissing as `disassembly`."""
    found = Counter(_INSTRUCTION.findall(disassembly(built)))
    del found[_PADDING]
    return Instructions(dict(sorted(found.items())))


def disassembly(built: Built) -> str:
    """Return the listing of the variant's entry.

    Raises:
        ExtraMissing: there is no nvdisasm, or it does not know this architecture.

    """
    if (tool := find_nvdisasm()) is None:
        raise ExtraMissing(
            "nvdisasm is nowhere: not in a package, not on PATH",
            hint="pip install nvidia-cuda-nvdisasm",
        )
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(built.cubin)
        ran = subprocess.run(  # noqa: S603 - NVIDIA's tool on a file of our own
            [str(tool), "-c", str(cubin)],
            capture_output=True,
            text=True,
            check=False,
            timeout=_MINUTE_SECONDS,
        )
    if ran.returncode != 0:
        raise ExtraMissing(
            f"{tool.name} cannot read machine code for {built.architecture} of NVRTC "
            f"{built.compiler}: {ran.stderr.strip()}",
            hint="pip install --upgrade nvidia-cuda-nvdisasm",
        )
    return _section(ran.stdout, built.variant.entry)


def find_nvdisasm() -> Path | None:
    """Return nvdisasm of PyPI's package, else on PATH, else in triton's wheel, else None."""
    on_path = shutil.which(_TOOL)
    candidates = [*_in_packages("nvidia", f"*/bin/{_TOOL}")]
    candidates += [Path(on_path)] if on_path is not None else []
    candidates += _in_packages("triton", f"backends/nvidia/bin/{_TOOL}")
    return next(iter(candidates), None)


def _in_packages(package: str, pattern: str) -> Iterator[Path]:
    # Finding a top-level package does not import it.
    spec = find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        yield from sorted(Path(place).glob(pattern))


def _section(listing: str, entry: str) -> str:
    """Return one kernel's part of a listing, which has a section `.text.NAME` for each."""
    begin = listing.find(f".section\t.text.{entry},")
    assert begin >= 0, f"nvdisasm lists no kernel {entry!r}"
    end = listing.find("\n//-----", begin)
    return listing[begin : end if end >= 0 else len(listing)]
