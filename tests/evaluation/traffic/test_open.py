"""Claims about which traffic a scene opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moeprof.errors import RecipeError, TraceError
from moeprof.evaluation.traffic.open import open_traffic
from moeprof.resources import data_folder
from moeprof.workload.layer import MoELayer

if TYPE_CHECKING:
    from conftest import MakeScene

LAYER = MoELayer("gpt-oss-20b", 8, 8, num_experts=32, top_k=4)
OTHER = MoELayer("olmoe", 8, 8, num_experts=64, top_k=8)


@pytest.mark.parametrize("kind", ["recorded", "live", "generated"])
def test_a_scene_opens_its_kind_with_the_shape_it_asks_for(
    kind: str, make_scene: MakeScene
) -> None:
    scene = make_scene(kind=kind, batch_size=3, num_steps=2, num_settling_steps=1, num_layers=2)

    traffic = open_traffic(scene, LAYER, num_moe_layers=24)

    assert traffic.kind == kind
    assert (traffic.num_seeds, traffic.num_steps, traffic.batch_size) == (3, 3, 3)
    assert (traffic.num_layers, traffic.num_experts, traffic.top_k) == (2, 32, 4)
    assert len(traffic.rules) == 2
    assert traffic.requests().shape == (3, 3, 3)


@pytest.mark.parametrize("kind", ["recorded", "live"])
def test_a_source_of_other_experts_than_the_priced_layers_is_refused(
    kind: str, make_scene: MakeScene
) -> None:
    with pytest.raises(RecipeError, match=r"mini-moe has 32 experts, top 4; .*64, top 8, .*olmoe"):
        open_traffic(make_scene(kind=kind), OTHER, num_moe_layers=16)


def test_generated_traffic_follows_a_source_of_any_experts(make_scene: MakeScene) -> None:
    traffic = open_traffic(make_scene(kind="generated"), OTHER, num_moe_layers=16)

    assert (traffic.num_experts, traffic.top_k, traffic.num_layers) == (64, 8, 16)


def test_a_source_may_be_a_path(make_scene: MakeScene) -> None:
    path = str(data_folder() / "mini-moe" / "trace.parquet")

    by_path = open_traffic(make_scene(source=path), LAYER, num_moe_layers=24)
    shipped = open_traffic(make_scene(), LAYER, num_moe_layers=24)

    assert (by_path.requests() == shipped.requests()).all()
    with pytest.raises(TraceError, match="found nothing"):
        open_traffic(make_scene(source="nowhere"), LAYER, num_moe_layers=24)
