"""The MoE models that moeprof knows by name, or reads from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeprof import sourced
from moeprof.errors import WorkloadError
from moeprof.resources import data_folder
from moeprof.sourced import Kind
from moeprof.workload.attention import Attention
from moeprof.workload.layer import MoELayer
from moeprof.workload.model import MoEModel

if TYPE_CHECKING:
    from pathlib import Path

REQUIRED = {
    "weight_dtype": Kind.TEXT,
    "num_layers": Kind.COUNT,
    "vocab_size": Kind.COUNT,
    "layer.hidden_size": Kind.COUNT,
    "layer.expert_size": Kind.COUNT,
    "layer.num_experts": Kind.COUNT,
    "layer.top_k": Kind.COUNT,
    "attention.kind": Kind.TEXT,
    "attention.num_heads": Kind.COUNT,
    "attention.head_size": Kind.COUNT,
}
OPTIONAL = {
    "num_dense_layers": Kind.COUNT,
    "dense_mlp_size": Kind.COUNT,
    "num_parameters": Kind.COUNT,
    "num_active_parameters": Kind.COUNT,
    "layer.num_shared_experts": Kind.COUNT,
    "layer.shared_expert_size": Kind.COUNT,
    "attention.num_kv_heads": Kind.COUNT,
    "attention.kv_lora_rank": Kind.COUNT,
    "attention.q_lora_rank": Kind.COUNT,
    "attention.rope_head_size": Kind.COUNT,
    "attention.value_head_size": Kind.COUNT,
    "attention.sliding_window": Kind.COUNT,
    "attention.num_sliding_layers": Kind.COUNT,
}


def folder() -> Path:
    """Return the folder of the model files."""
    return data_folder() / "models"


def model_names() -> tuple[str, ...]:
    """Return the names of the models in the catalogue, sorted."""
    return sourced.names(folder())


def model(name: str) -> MoEModel:
    """Return one model, by its name in the catalogue or by the path of a file ending in .toml.

    Raises:
        WorkloadError: there is no such model, or its sizes are impossible.
        CatalogueError: its file is malformed or a number in it has no source.

    """
    stem, path = sourced.find(name, folder(), noun="model", error=WorkloadError)
    found = sourced.read(path, required=REQUIRED, optional=OPTIONAL)
    values = found.values
    try:
        return MoEModel(
            name=stem,
            num_layers=values["num_layers"],
            num_dense_layers=values.get("num_dense_layers", 0),
            layer=MoELayer(name=stem, **found.under("layer")),
            dense_mlp_size=values.get("dense_mlp_size"),
            attention=Attention(**found.under("attention")),
            vocab_size=values["vocab_size"],
            weight_dtype=values["weight_dtype"],
            num_parameters=values.get("num_parameters"),
            num_active_parameters=values.get("num_active_parameters"),
        )
    except WorkloadError as error:
        message = f"{path}: {error.message}"
        raise WorkloadError(message, hint=error.hint) from error
