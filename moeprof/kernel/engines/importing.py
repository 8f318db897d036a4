"""Whether another package's kernels can be had here, and the reason where they cannot."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any


@dataclass(frozen=True, slots=True)
class Need:
    """An attribute of a module that an adapter uses, with the arguments that it passes.

    `arguments` are passed by name. None: the attribute's signature cannot be asked for, as where
    it is compiled; an empty tuple: it is not called.
    """

    module: str
    attribute: str
    arguments: tuple[str, ...] | None = ()


@dataclass(frozen=True, slots=True)
class Package:
    """A package with kernels: what is imported, what pip calls it, and what an adapter needs.

    `tried` is the version whose sources the adapter was written from.
    """

    name: str
    distribution: str
    tried: str
    needs: tuple[Need, ...]


def load(module: str, attribute: str) -> Any:
    """Return an attribute of a module that `missing` has found."""
    return getattr(import_module(module), attribute)


def version_of(distribution: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def versions_of(*distributions: str) -> dict[str, str]:
    """Return the installed versions of those distributions that are installed."""
    found = {name: version_of(name) for name in distributions}
    return {name: there for name, there in found.items() if there is not None}


@cache
def missing(package: Package) -> str | None:
    """Return why a package's kernels cannot be used, or None; asked once per process."""
    installed = version_of(package.distribution)
    if installed is None:
        return f"{package.name} is not installed: pip install {package.distribution}"
    reasons = (_unmet(need, package.tried) for need in package.needs)
    reason = next((reason for reason in reasons if reason is not None), None)
    return None if reason is None else f"{package.name} {installed} {reason}"


def _unmet(need: Need, tried: str) -> str | None:
    try:
        module = import_module(need.module)
    # A module that its package no longer has, against one that fails for a reason of its own.
    except ModuleNotFoundError as error:
        if error.name is not None and need.module.startswith(error.name):
            return f"has no {need.module}; {tried} has"
        return f"does not import here: {error}"
    except Exception as error:  # noqa: BLE001 - an engine's import can fail in any way
        return f"does not import here: {_first_line(error)}"
    if not hasattr(module, need.attribute):
        return f"has no {need.module}.{need.attribute}; {tried} has"
    if (reason := _unlike(getattr(module, need.attribute), need)) is not None:
        return f"is not the {tried} that this adapter knows: {reason}"
    return None


def _unlike(found: Any, need: Need) -> str | None:
    """Return how a signature differs from the one that an adapter calls, or None."""
    if not need.arguments:
        return None
    parameters = inspect.signature(found).parameters
    for name in need.arguments:
        if name not in parameters:
            return f"{need.attribute} takes no {name}"
    for name, parameter in parameters.items():
        if name in need.arguments or name == "self" or parameter.default is not parameter.empty:
            continue
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            return f"{need.attribute} asks for {name}"
    return None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
