"""The record of the run that a sweep is about to be: what was asked, by what, on what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moeprof import __version__
from moeprof.dataset.identity import run_id
from moeprof.dataset.run import RunRecord
from moeprof.workload.routing import content_digest

if TYPE_CHECKING:
    from moeprof.device.protocol import Device
    from moeprof.kernel.protocol import Kernel
    from moeprof.recipe.load import LoadedRecipe


def describe_run(loaded: LoadedRecipe, device: Device, kernels: dict[str, Kernel]) -> RunRecord:
    """Return the record of a run; its id is the same whenever all of it is the same."""
    recipe = _canonical(loaded)
    kernel_versions = {name: kernel.versions() for name, kernel in kernels.items()}
    versions = {"moeprof": __version__, **device.identity.versions}
    for each in kernel_versions.values():
        versions |= each
    limits: dict[str, Any] = {
        "power_limit_watts": device.power_limit_watts,
        "l2_bytes": device.l2_bytes,
    }
    return RunRecord(
        run_id=run_id(
            recipe,
            seed=loaded.recipe.seed,
            device=device.identity,
            kernel_versions=kernel_versions,
            moeprof_version=__version__,
        ),
        recipe_text=loaded.text,
        recipe=recipe,
        seed=loaded.recipe.seed,
        versions=versions,
        device=device.identity,
        limits=limits,
        notes={"energy_absent_reason": device.energy_absent_reason},
    )


def _canonical(loaded: LoadedRecipe) -> dict[str, Any]:
    """Return the recipe as plain values: defaults filled in, names resolved to sizes."""
    recipe: dict[str, Any] = loaded.recipe.model_dump(mode="json")
    # The catalogue may change under a name, a recording under its path.
    recipe["resolved_layers"] = [
        [layer.name, layer.hidden_size, layer.expert_size, layer.num_experts, layer.top_k]
        for layer in loaded.layers
    ]
    digests = [content_digest(pattern) for pattern in loaded.patterns]
    recipe["recording_digests"] = [digest for digest in digests if digest is not None]
    return recipe
