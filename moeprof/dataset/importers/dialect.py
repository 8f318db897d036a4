"""The words of aiconfigurator's tables and what moeprof calls the same things.

Source: https://github.com/ai-dynamo/aiconfigurator, `collector/*/collect_moe.py` (number formats
and names of distributions), and the tables of `aiconfigurator-core` 0.12.0.
"""

from __future__ import annotations

from typing import Final

# moe_dtype: the number formats of the weights and of the activations that they meet.
NUMBER_FORMATS: Final[dict[str, tuple[str, str]]] = {
    "bfloat16": ("bf16", "bf16"),
    "float16": ("fp16", "fp16"),
    "fp8": ("fp8", "fp8"),
    "fp8_block": ("fp8_block", "fp8"),
    "nvfp4": ("nvfp4", "nvfp4"),
    "int4_wo": ("int4", "bf16"),
    "w4afp8": ("int4", "fp8"),
    "w4a16_mxfp4": ("mxfp4", "bf16"),
    "w4a8_mxfp4_mxfp8": ("mxfp4", "mxfp8"),
}
ENGINES: Final = {"vllm": "VLLM", "sglang": "SGLang", "trtllm": "TRTLLM"}
# Tables of aiconfigurator-core 0.12.0 from before the collector's commit 13dadba3b of 2026-04-19,
# see `routing.packed`. Their latencies say so: with two tokens and eight ranks the fullest rank
# takes 0.88, 0.86 and 0.91 of what a single rank takes (A100, H100, H200), elsewhere 0.2 to 0.3.
_COLLECTED_PACKED: Final = frozenset({("vllm", "0.14.0"), ("trtllm", "1.3.0rc10")})
_POWER_LAW: Final = "power_law_"
_PACKED: Final = "packed_"


def pattern_of(
    distribution: str | None, engine: str | None = None, version: str | None = None
) -> str | None:
    """Return the routing pattern that a distribution of the collector is, None where unknown.

    What the collector calls balanced is dealt by a fixed stride, see `routing.strided`. How it
    mends the counts of its power law depends on when it ran, which the engine's version tells.
    """
    if distribution == "balanced":
        return "strided"
    if distribution is not None and distribution.startswith(_POWER_LAW):
        exponent = distribution.removeprefix(_POWER_LAW)
        try:
            packed = _PACKED if (engine, version) in _COLLECTED_PACKED else ""
            return f"{packed}power_law:{repr(float(exponent)).removesuffix('.0')}"
        except ValueError:
            return None
    return "uniform" if distribution == "uniform" else None


def distribution_of(pattern: str | None) -> str | None:
    """Return what the collector calls a routing pattern, None where it has no word for it.

    Its words are for what goes into the gate, whatever groups that has.
    """
    pattern = None if pattern is None else pattern.partition("/groups:")[0].removeprefix(_PACKED)
    if pattern in {"strided", "balanced"}:
        return "balanced"
    if pattern is not None and pattern.startswith("power_law:"):
        return f"{_POWER_LAW}{pattern.removeprefix('power_law:')}"
    return "uniform" if pattern == "uniform" else None
