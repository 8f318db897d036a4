"""Which of a fitted model's kernels prices a scene's layer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from moeprof.cost.layer_points import LayerRequest, points_of_layer
from moeprof.cost.points import points_from_table
from moeprof.errors import RecipeError, UsageError

if TYPE_CHECKING:
    from moeprof.cost.model import CostModel
    from moeprof.cost.points import Points
    from moeprof.recipe.scene import Scene
    from moeprof.workload.layer import MoELayer

_PATTERN = "uniform"  # of fitted curves; rows are the simulation's own
# What a scene calls that for which `moeprof predict` has options.
_KEYS = {
    "--gpu": "model.device (where absent, gpus.specification)",
    "--kernel": "model.kernel",
    "--weight-dtype": "model.weight_dtype",
}


def kernel_points(scene: Scene, layer: MoELayer, cost: CostModel) -> Points:
    """Return one point that stands for every rank: the scene's kernel, GPU, batch and layer.

    The kernel is chosen as `moeprof predict --layer` does, for the scene's model; sizes are those
    of `layer`, which may have other experts than the model (a trace's).

    Raises:
        RecipeError: the cost model does not know the scene's GPU, kernel or number format.
        WorkloadError: the scene's model is not in the catalogue.

    """
    request = LayerRequest(
        layer=scene.model.layer,
        tokens=str(scene.traffic.batch_size),
        pattern=_PATTERN,
        kernel=scene.model.kernel,
        gpu=scene.model.device or scene.gpus.specification,
        weight_dtype=scene.model.weight_dtype,
    )
    try:
        point = points_from_table(points_of_layer(cost, request).table)
    except UsageError as error:
        message = error.message
        for option, key in _KEYS.items():
            message = message.replace(option, key)
        raise RecipeError(message, hint=error.hint) from error
    return replace(
        point,
        hidden_size=np.array([layer.hidden_size]),
        expert_size=np.array([layer.expert_size]),
        num_experts=np.array([layer.num_experts]),
        top_k=np.array([layer.top_k]),
        ep_size=np.array([min(scene.gpus.num_gpus, layer.num_experts)]),
    )
