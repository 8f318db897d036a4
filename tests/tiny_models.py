"""Random Transformers MoEs of every family, small enough for ten thousand tokens in a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OlmoeConfig,
    OlmoeForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NUM_EXPERTS = 8
TOP_K = 2
VOCABULARY = 64
_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "num_experts_per_tok": TOP_K,
    "eos_token_id": None,
    "bos_token_id": None,
    "pad_token_id": None,
}


def _mixtral() -> Any:
    return MixtralForCausalLM(MixtralConfig(**_COMMON, num_local_experts=NUM_EXPERTS))


def _qwen2() -> Any:
    config = Qwen2MoeConfig(
        **_COMMON,
        num_experts=NUM_EXPERTS,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
    )
    return Qwen2MoeForCausalLM(config)


def _qwen3() -> Any:
    config = Qwen3MoeConfig(
        **_COMMON,
        num_experts=NUM_EXPERTS,
        moe_intermediate_size=16,
        head_dim=16,
        norm_topk_prob=True,
    )
    return Qwen3MoeForCausalLM(config)


def _olmoe() -> Any:
    return OlmoeForCausalLM(OlmoeConfig(**_COMMON, num_experts=NUM_EXPERTS))


def _deepseek() -> Any:
    config = DeepseekV3Config(
        **_COMMON,
        n_routed_experts=NUM_EXPERTS,
        moe_intermediate_size=16,
        n_group=4,
        topk_group=2,
        n_shared_experts=1,
        first_k_dense_replace=1,
        q_lora_rank=8,
        kv_lora_rank=8,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=16,
    )
    return DeepseekV3ForCausalLM(config)


def _gpt_oss() -> Any:
    config = GptOssConfig(
        **_COMMON, num_local_experts=NUM_EXPERTS, head_dim=16, layer_types=["full_attention"] * 2
    )
    return GptOssForCausalLM(config)


FAMILIES: dict[str, Callable[[], Any]] = {
    "mixtral": _mixtral,
    "qwen2-moe": _qwen2,
    "qwen3-moe": _qwen3,
    "olmoe": _olmoe,
    "deepseek-v3": _deepseek,
    "gpt-oss": _gpt_oss,
}


def tiny_model(family: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    """Return a model whose every parameter and bias is drawn: gates start as zeros otherwise."""
    model = FAMILIES[family]().eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            if name.endswith("e_score_correction_bias"):
                value.normal_(0.0, 0.3, generator=draw)
            elif isinstance(value, torch.nn.Parameter):
                value.normal_(1.0 if "norm" in name else 0.0, 0.2, generator=draw)
    return model.to(dtype)


def tokens(num_requests: int, num_tokens: int, seed: int = 0) -> torch.Tensor:
    """Return random token ids, [num_requests, num_tokens]."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (num_requests, num_tokens), generator=draw)
