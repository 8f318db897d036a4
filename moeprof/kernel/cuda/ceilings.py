"""The most registers that each variant may use, as committed; spills and stack are not allowed."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from moeprof.errors import InputError
from moeprof.resources import kernels_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from moeprof.kernel.cuda.usage import Usage

_HEAD: Final = """\
# The most registers that a thread of each variant may use, by architecture; none may spill or have
# a stack. Written by `moeprof kernels inspect --write-ceilings kernels/ceilings.toml`.
"""
_COMPILER: Final = "compiler"
_REGISTERS_MAX: Final = 255
# What a thread's registers are allocated in (256 for a warp): another compiler may take one more.
_REGISTER_UNIT: Final = 8
_WRITE: Final = "`moeprof kernels inspect --write-ceilings FILE` writes it anew."


@dataclass(frozen=True, slots=True)
class Ceilings:
    """`registers[architecture][variant]`, as the NVRTC of version `compiler` needed them."""

    compiler: str
    registers: Mapping[str, Mapping[str, int]]


def ceilings_path() -> Path:
    """Return the file that ships with moeprof."""
    return kernels_folder() / "ceilings.toml"


def read_ceilings(path: Path) -> Ceilings:
    """Return the ceilings of a file.

    Raises:
        InputError: it is not readable, or holds something else than ceilings.

    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}", hint=_WRITE) from error
    compiler = document.pop(_COMPILER, None)
    if not isinstance(compiler, str):
        raise InputError(
            f"{path}: compiler must be a version of NVRTC, got {compiler!r}", hint=_WRITE
        )
    for architecture, registers in document.items():
        for where, value in _leaves(architecture, registers):
            if type(value) is not int or not 0 < value <= _REGISTERS_MAX:
                raise InputError(
                    f"{path}: {where} must be 1..{_REGISTERS_MAX} registers, got {value!r}",
                    hint=_WRITE,
                )
    return Ceilings(compiler, document)


def ceilings_text(ceilings: Ceilings) -> str:
    """Return the file's text."""
    lines = [_HEAD, f'{_COMPILER} = "{ceilings.compiler}"\n']
    for architecture, registers in ceilings.registers.items():
        lines.append(f"\n[{architecture}]\n")
        lines += [f'"{name}" = {value}\n' for name, value in registers.items()]
    return "".join(lines)


def exceeded(
    ceilings: Ceilings, variant: str, architecture: str, usage: Usage, *, compiler: str
) -> tuple[str, ...]:
    """Return what is above its ceiling, or has none, in words.

    Registers of another compiler than that of the ceilings may be 8 more.
    """
    return tuple(_exceeded(ceilings, variant, architecture, usage, compiler))


def _exceeded(
    ceilings: Ceilings, variant: str, architecture: str, usage: Usage, compiler: str
) -> Iterator[str]:
    ceiling = ceilings.registers.get(architecture, {}).get(variant)
    same = compiler == ceilings.compiler
    if ceiling is None:
        yield "no ceiling is committed for its registers"
    elif usage.registers > ceiling + (0 if same else _REGISTER_UNIT):
        by = "" if same else f" (NVRTC {ceilings.compiler}, this is {compiler})"
        yield f"{usage.registers} registers, the ceiling is {ceiling}{by}"
    if usage.spill_store_bytes or usage.spill_load_bytes:
        yield f"spills {usage.spill_store_bytes} bytes, loads {usage.spill_load_bytes} back"
    if usage.stack_bytes:
        yield f"a stack of {usage.stack_bytes} bytes"


def _leaves(where: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield f"{where}.{name}", inner
    else:
        yield where, value
