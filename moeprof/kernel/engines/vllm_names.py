"""What moeprof uses of vLLM: where it is, and with which arguments it is called."""

from __future__ import annotations

from moeprof.kernel.engines.importing import Need, Package

LAYERS = "vllm.model_executor.layers."
MOE = f"{LAYERS}fused_moe."
CONFIG = f"{MOE}config"
PLAIN = f"{MOE}oracle.unquantized"
FP8 = f"{MOE}oracle.fp8"
KEYS = f"{LAYERS}quantization.utils.quant_utils"
WORKSPACE = "vllm.v1.worker.workspace"
_LAYER = (
    "num_experts",
    "experts_per_token",
    "hidden_dim",
    "intermediate_size",
    "num_local_experts",
    "num_logical_experts",
    "activation",
    "device",
    "routing_method",
    "moe_parallel_config",
    "in_dtype",
    "moe_backend",
    "require_decomposed_backend",
)
_WEIGHTS = ("w13", "w2", "w13_scale", "w2_scale", "w13_input_scale", "w2_input_scale")
_SCALES = ("w1_scale", "w2_scale", "a1_scale", "a2_scale", "block_shape")
PACKAGE = Package(
    "vllm",
    "vllm",
    "0.33",
    (
        Need("vllm.config", "VllmConfig"),
        Need("vllm.config", "set_current_vllm_config", ("vllm_config",)),
        Need(CONFIG, "FusedMoEConfig", _LAYER),
        Need(CONFIG, "FusedMoEParallelConfig"),
        Need(CONFIG, "FUSED_MOE_UNQUANTIZED_CONFIG"),
        Need(CONFIG, "RoutingMethodType"),
        Need(f"{MOE}activation", "MoEActivation"),
        Need(PLAIN, "select_unquantized_moe_backend", ("moe_config",)),
        Need(
            PLAIN,
            "convert_to_unquantized_kernel_format",
            ("unquantized_backend", "moe_config", "w13_weight", "w2_weight"),
        ),
        Need(
            PLAIN,
            "make_unquantized_moe_kernel",
            ("quant_config", "moe_config", "backend", "experts_cls"),
        ),
        Need(FP8, "select_fp8_moe_backend", ("config", "weight_key", "activation_key")),
        Need(FP8, "convert_to_fp8_moe_kernel_format", ("fp8_backend", "layer", *_WEIGHTS)),
        Need(FP8, "make_fp8_moe_quant_config", ("fp8_backend", *_SCALES)),
        Need(
            FP8,
            "make_fp8_moe_kernel",
            ("moe_quant_config", "moe_config", "experts_cls", "fp8_backend"),
        ),
        Need(KEYS, "kFp8Static128BlockSym"),
        Need(KEYS, "kFp8Dynamic128Sym"),
        Need(WORKSPACE, "init_workspace_manager", ("device",)),
        Need(WORKSPACE, "is_workspace_manager_initialized"),
        Need(f"{MOE}fused_moe", "get_config_file_name", ("E", "N", "dtype", "block_shape")),
        Need(f"{MOE}fused_moe", "get_moe_configs", ("E", "N", "dtype", "block_n", "block_k")),
    ),
)
