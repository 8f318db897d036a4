"""The kernels that a recipe names, opened for a device or only checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeprof.errors import RecipeError, WorkloadError
from moeprof.kernel.opening import open_kernel
from moeprof.kernel.registry import check_name

if TYPE_CHECKING:
    from moeprof.device.protocol import Device
    from moeprof.kernel.protocol import Kernel
    from moeprof.recipe.load import LoadedRecipe


def check_kernels(loaded: LoadedRecipe) -> None:
    """Raise RecipeError for a kernel that is not known, without importing any."""
    for name in loaded.recipe.workload.kernels:
        try:
            check_name(name)
        except WorkloadError as error:
            raise RecipeError(
                f"{loaded.path}: workload.kernels: {error.message}", hint=error.hint
            ) from error


def open_kernels(loaded: LoadedRecipe, device: Device) -> dict[str, Kernel]:
    """Return the recipe's kernels by name. Raises RecipeError for one that is not known."""
    check_kernels(loaded)
    return {name: open_kernel(name, device) for name in loaded.recipe.workload.kernels}
