"""Opens the traffic that a scene asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from moeprof.evaluation.traffic.experts import check_experts
from moeprof.evaluation.traffic.generated import generated_traffic
from moeprof.evaluation.traffic.law import fit_law
from moeprof.evaluation.traffic.live_model import live_traffic
from moeprof.evaluation.traffic.recorded import recorded_traffic
from moeprof.evaluation.traffic.traced import read_traced
from moeprof.resources import data_folder

if TYPE_CHECKING:
    from moeprof.evaluation.traffic.protocol import Traffic
    from moeprof.recipe.scene import Scene
    from moeprof.workload.layer import MoELayer

SHIPPED: Final = "mini-moe"
"""The source that ships: a model, its held-out text and a trace of it."""
_TRACE_NAME: Final = "trace.parquet"


def open_traffic(scene: Scene, layer: MoELayer, *, num_moe_layers: int) -> Traffic:
    """Return the traffic of a scene for the layer that is priced.

    `num_moe_layers` is how many MoE layers the priced model has: generated traffic has as many,
    where the scene does not say. A source is `mini-moe`, which ships, or a path: of a trace's file
    (recorded; generated after it) or of a folder with a model and held-out.txt (live).

    Raises:
        RecipeError: the source's experts are not the layer's; or what `live_traffic` raises.
        TraceError: what `read_traced`, `recorded_traffic` and `fit_law` raise.
        CheckpointError, ExtraMissing, TextError: what `live_traffic` raises.

    """
    source = scene.traffic.source
    shipped = data_folder() / SHIPPED if source == SHIPPED else None
    if scene.traffic.kind == "live":
        return live_traffic(scene, layer, shipped or Path(source))
    path = shipped / _TRACE_NAME if shipped else Path(source)
    if scene.traffic.kind == "generated":
        law = fit_law(read_traced(path))
        return generated_traffic(scene, layer, law, num_moe_layers=num_moe_layers)
    traced = read_traced(path, scene.traffic.num_layers)
    check_experts(scene, layer, num_experts=traced.num_experts, top_k=traced.top_k)
    return recorded_traffic(scene, traced)
