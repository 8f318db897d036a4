"""The text of one variant as a compiler reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moeprof.kernel.cuda.variants import architecture_macro
from moeprof.resources import kernels_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moeprof.kernel.cuda.variants import Variant

_DEVICE: Final = "device.cuh"


def source_text(variant: Variant, architecture: str) -> str:
    """Return ARCH and the variant's macros, `device.cuh`, the variant's headers and its source."""
    return "".join(_parts(variant, architecture))


def _parts(variant: Variant, architecture: str) -> Iterator[str]:
    for name, value in (("ARCH", architecture_macro(architecture)), *variant.defines):
        yield f"#define {name} {value}\n"
    for file in (_DEVICE, *variant.headers, variant.source):
        text = (kernels_folder() / file).read_text(encoding="utf-8")
        # So that a compiler's message names the file and its line.
        yield f'#line 1 "kernels/{file}"\n{text}\n'
