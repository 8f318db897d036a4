"""Claims about the models in the catalogue."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

import pytest

from moeprof import sourced
from moeprof.errors import CatalogueError, WorkloadError
from moeprof.workload import catalogue
from moeprof.workload.catalogue import model, model_names

if TYPE_CHECKING:
    from pathlib import Path

PUBLISHED = [name for name in model_names() if model(name).num_parameters is not None]
PARAMETER_TOLERANCE = 0.01  # published totals are rounded; norms and biases are not computed
ACTIVE_TOLERANCE = 0.02


def test_every_asked_for_model_is_in_the_catalogue() -> None:
    assert model_names() == (
        "deepseek-v3",
        "deployment-61",
        "gpt-oss-120b",
        "gpt-oss-20b",
        "mixtral-8x22b",
        "mixtral-8x7b",
        "mixtral-8x7b-quarter",
        "olmoe-1b-7b",
        "qwen3-235b-a22b",
        "qwen3-30b-a3b",
        "tiny",
    )


def test_all_published_models_are_checked_against_their_parameters() -> None:
    assert set(model_names()) - set(PUBLISHED) == {
        "deployment-61",
        "mixtral-8x7b-quarter",
        "tiny",
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_computed_from_the_shape_agree_with_the_published_total(name: str) -> None:
    found = model(name)

    assert found.num_parameters is not None
    assert found.computed_parameters == pytest.approx(found.num_parameters, rel=PARAMETER_TOLERANCE)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_active_parameters_lie_between_the_two_ways_to_count_embeddings(
    name: str,
) -> None:
    found = model(name)
    embedding = found.vocab_size * found.layer.hidden_size

    assert found.num_active_parameters is not None
    lowest = found.computed_active_parameters * (1 - ACTIVE_TOLERANCE)
    highest = (found.computed_active_parameters + embedding) * (1 + ACTIVE_TOLERANCE)
    assert lowest <= found.num_active_parameters <= highest


def test_mixtral_8x7b_has_46_7_billion_parameters_and_uses_12_9() -> None:
    mixtral = model("mixtral-8x7b")

    assert mixtral.num_parameters == 46_700_000_000
    assert mixtral.num_active_parameters == 12_900_000_000
    assert mixtral.layer.weights_per_expert == 3 * 4096 * 14336
    assert (mixtral.layer.num_experts, mixtral.layer.top_k) == (8, 2)


def test_deepseek_v3_has_58_moe_layers_of_256_experts_and_a_shared_one() -> None:
    deepseek = model("deepseek-v3")

    assert deepseek.num_moe_layers == 58
    assert (deepseek.layer.num_experts, deepseek.layer.top_k) == (256, 8)
    assert deepseek.layer.shared_weights == deepseek.layer.weights_per_expert


def test_the_deployment_follows_deepseek_v3_where_its_statement_is_silent() -> None:
    deployment = model("deployment-61")
    deepseek = model("deepseek-v3")

    assert dataclasses.replace(deployment.layer, name=deepseek.name) == deepseek.layer
    assert deployment.attention.num_heads * deployment.attention.head_size == 7168
    assert deployment.attention.kv_lora_rank == deepseek.attention.kv_lora_rank
    assert deployment.dense_mlp_size == 18432
    assert deployment.weight_dtype == "bf16"


def test_what_the_deployment_assumes_says_so() -> None:
    path = catalogue.folder() / "deployment-61.toml"
    found = sourced.read(path, required=catalogue.REQUIRED, optional=catalogue.OPTIONAL)

    for key in ("layer.num_experts", "layer.top_k", "layer.expert_size", "attention.kv_lora_rank"):
        assert found.sources[key].startswith("assumed as deepseek-v3")


@pytest.mark.parametrize(
    ("name", "elements"),
    [
        ("mixtral-8x7b", 2 * 8 * 128),
        ("deepseek-v3", 512 + 64),
        ("qwen3-30b-a3b", 2 * 4 * 128),
        ("gpt-oss-120b", 2 * 8 * 64),
    ],
)
def test_kv_elements_per_token_follow_the_attention_kind(name: str, elements: int) -> None:
    assert model(name).attention.kv_elements_per_token() == elements


def test_a_sliding_window_bounds_the_kv_cache_of_its_layers_only() -> None:
    gpt_oss = model("gpt-oss-120b")
    per_token = gpt_oss.attention.kv_elements_per_token()

    assert gpt_oss.kv_elements(100) == 36 * 100 * per_token
    assert gpt_oss.kv_elements(1000) == (18 * 1000 + 18 * 128) * per_token


def test_an_unknown_model_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(WorkloadError, match="unknown model 'mixtral-8x7'") as refused:
        model("mixtral-8x7")

    assert "did you mean 'mixtral-8x7b'?" in refused.value.message
    assert refused.value.hint is not None
    assert "deepseek-v3" in refused.value.hint


def test_a_model_may_be_given_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((catalogue.folder() / "tiny.toml").read_text())

    mine = model(str(path))

    assert mine.name == "mine"
    assert dataclasses.replace(mine.layer, name="tiny") == model("tiny").layer


def test_a_path_to_no_file_is_refused() -> None:
    with pytest.raises(WorkloadError, match=r"nowhere\.toml: no such model file"):
        model("nowhere.toml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("top_k = { value = 2", "top_k = { value = 9", "top_k must lie in 1..8, got 9"),
        ('weight_dtype = "bf16"', 'weight_dtype = "int3"', "weight_dtype must be one of"),
        ('kind = "gqa"', 'kind = "lookup"', "kind must be one of gqa, mla, got 'lookup'"),
        ('kind = "gqa"', 'kind = "mla"', "kv_lora_rank must be at least 1 for mla, got None"),
        ("vocab_size = { value = 256", "vocab_size = { value = 0", "vocab_size must be at least 1"),
    ],
)
def test_an_impossible_model_file_is_refused_with_its_path(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = tmp_path / "wrong.toml"
    text = (catalogue.folder() / "tiny.toml").read_text()
    assert old in text
    path.write_text(text.replace(old, new))

    with pytest.raises(WorkloadError, match=re.escape(str(path))) as refused:
        model(str(path))

    assert said in refused.value.message


def test_a_model_file_with_a_misspelt_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text((catalogue.folder() / "tiny.toml").read_text().replace("top_k", "topk"))

    with pytest.raises(CatalogueError, match=r"unknown key 'layer.topk'; did you mean"):
        model(str(path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_dense_layers": 2, "dense_mlp_size": 8}, "num_dense_layers must lie in 0..1, got 2"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"num_dense_layers": 1}, "must come together, got 1 and None"),
        ({"num_parameters": 0}, "num_parameters must be at least 1, got 0"),
    ],
)
def test_an_impossible_model_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(WorkloadError, match="model 'tiny'") as refused:
        dataclasses.replace(model("tiny"), **change)

    assert said in refused.value.message


def test_more_sliding_layers_than_layers_are_refused() -> None:
    gpt_oss = model("gpt-oss-20b")

    with pytest.raises(WorkloadError, match=r"num_sliding_layers must lie in 0\.\.11, got 12"):
        dataclasses.replace(gpt_oss, num_layers=11)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sliding_window": None}, "sliding_window must be at least 1 for gqa, got None"),
        ({"num_sliding_layers": -1}, "num_sliding_layers must be at least 0, got -1"),
        ({"num_kv_heads": 0}, "num_kv_heads must be at least 1 for gqa, got 0"),
    ],
)
def test_impossible_attention_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(WorkloadError) as refused:
        dataclasses.replace(model("gpt-oss-20b").attention, **change)

    assert said in refused.value.message
