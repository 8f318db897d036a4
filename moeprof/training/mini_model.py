"""Builds a small MoE of Transformers, its weights drawn from a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from moeprof.huggingface.extra import quiet, transformers

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from moeprof.recipe.training import ModelSection

NUM_BYTES: Final = 256


def build_model(section: ModelSection, *, num_window_tokens: int, seed: int) -> nn.Module:
    """Return a causal language model over bytes, in float32 on the CPU, in training mode.

    The same seed gives the same weights; torch's own random state is left as it was. Raises
    ExtraMissing where Transformers is not installed.
    """
    config = _CONFIGS[section.family](section, num_window_tokens)
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model: nn.Module = transformers().AutoModelForCausalLM.from_config(config)
    return model.float().train()


def _common(section: ModelSection, num_window_tokens: int) -> dict[str, Any]:
    return {
        "vocab_size": NUM_BYTES,
        "hidden_size": section.hidden_size,
        "num_hidden_layers": section.num_layers,
        "num_attention_heads": section.num_heads,
        "num_experts_per_tok": section.top_k,
        "initializer_range": section.initial_deviation,
        "max_position_embeddings": max(num_window_tokens, 1024),
        # Bytes need few embeddings: one table for both ends leaves the parameters to experts.
        "tie_word_embeddings": True,
        # No byte begins or ends a text.
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }


def _qwen3_moe(section: ModelSection, num_window_tokens: int) -> Any:
    return transformers().Qwen3MoeConfig(
        **_common(section, num_window_tokens),
        num_key_value_heads=section.num_key_value_heads,
        head_dim=section.hidden_size // section.num_heads,
        num_experts=section.num_experts,
        moe_intermediate_size=section.expert_size,
        intermediate_size=section.expert_size,
        decoder_sparse_step=1,
        # A single weight divided by itself is 1 and would teach the gate nothing.
        norm_topk_prob=section.top_k > 1,
    )


def _mixtral(section: ModelSection, num_window_tokens: int) -> Any:
    return transformers().MixtralConfig(
        **_common(section, num_window_tokens),
        num_key_value_heads=section.num_key_value_heads,
        num_local_experts=section.num_experts,
        intermediate_size=section.expert_size,
    )


def _deepseek_v3(section: ModelSection, num_window_tokens: int) -> Any:
    head_size = section.hidden_size // section.num_heads
    return transformers().DeepseekV3Config(
        **_common(section, num_window_tokens),
        num_key_value_heads=section.num_heads,
        n_routed_experts=section.num_experts,
        n_shared_experts=1,
        moe_intermediate_size=section.expert_size,
        intermediate_size=section.expert_size,
        first_k_dense_replace=0,
        num_mtp_layers=0,
        n_group=1,
        topk_group=1,
        norm_topk_prob=section.top_k > 1,
        q_lora_rank=None,
        kv_lora_rank=section.hidden_size // 2,
        qk_nope_head_dim=head_size,
        qk_rope_head_dim=head_size,
        v_head_dim=head_size,
    )


_CONFIGS: Final[dict[str, Callable[[ModelSection, int], Any]]] = {
    "qwen3-moe": _qwen3_moe,
    "mixtral": _mixtral,
    "deepseek-v3": _deepseek_v3,
}
