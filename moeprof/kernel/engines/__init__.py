"""The expert kernels of serving engines and libraries, each behind a thin adapter."""

from __future__ import annotations

from typing import Final

_HERE: Final = "moeprof.kernel.engines."

# What the registry opens: name, then module and what to call in it.
ENGINE_KERNELS: Final = {
    "vllm-auto": (f"{_HERE}vllm_moe", "VllmAuto"),
    "vllm-triton": (f"{_HERE}vllm_moe", "VllmTriton"),
    "vllm-flashinfer-cutlass": (f"{_HERE}vllm_moe", "VllmFlashInferCutlass"),
    "vllm-deepgemm": (f"{_HERE}vllm_moe", "VllmDeepGemm"),
    "vllm-marlin": (f"{_HERE}vllm_moe", "VllmMarlin"),
    "sglang-triton": (f"{_HERE}sglang_moe", "SGLangTriton"),
    "flashinfer-cutlass": (f"{_HERE}flashinfer_cutlass", "FlashInferCutlass"),
    "flashinfer-monomoe": (f"{_HERE}flashinfer_monomoe", "FlashInferMonoMoe"),
    "deepgemm-masked": (f"{_HERE}deepgemm", "DeepGemmMasked"),
    "transformers-grouped": (f"{_HERE}transformers_experts", "TransformersGrouped"),
    "transformers-batched": (f"{_HERE}transformers_experts", "TransformersBatched"),
    "transformers-eager": (f"{_HERE}transformers_experts", "TransformersEager"),
}

# What pip calls the packages that these are from.
ENGINES: Final = ("vllm", "sglang", "flashinfer-python", "deep_gemm", "transformers")
