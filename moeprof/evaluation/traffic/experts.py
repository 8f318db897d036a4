"""Whether a source of traffic has the experts of the layer that is priced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeprof.errors import RecipeError

if TYPE_CHECKING:
    from moeprof.recipe.scene import Scene
    from moeprof.workload.layer import MoELayer


def check_experts(scene: Scene, layer: MoELayer, *, num_experts: int, top_k: int) -> None:
    """Return if the scene's source, of so many experts, is one for `layer`.

    Raises RecipeError: it is of other experts, or chooses more or fewer of them.
    """
    if (num_experts, top_k) == (layer.num_experts, layer.top_k):
        return
    raise RecipeError(
        f"traffic.source: {scene.traffic.source} has {num_experts} experts, top {top_k}; it must "
        f"have {layer.num_experts}, top {layer.top_k}, as model.layer {layer.name} has",
        hint='Take a layer or a source of the same, or traffic.kind = "generated".',
    )
