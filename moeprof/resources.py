"""Where the files that ship with moeprof are: catalogues, recipes and CUDA sources."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
_SHIPPED = _PACKAGE / "_shipped"


def _folder(name: str) -> Path:
    # In a wheel the folders lie inside the package; in a checkout they are its neighbours.
    shipped = _SHIPPED / name
    return shipped if shipped.is_dir() else _PACKAGE.parent / name


def data_folder() -> Path:
    """Return the folder with the `models/` and `gpus/` catalogues."""
    return _folder("data")


def recipes_folder() -> Path:
    """Return the folder with the recipes that ship with moeprof."""
    return _folder("recipes")


def kernels_folder() -> Path:
    """Return the folder with the CUDA C++ sources."""
    return _folder("kernels")
