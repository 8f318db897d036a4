"""The latent attention kernels: their variants, what they take, and how the context is split."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Final

from moeprof.kernel.cuda.variants import Variant

# Of kernels/mla_decode.cu and kernels/mla_combine.cu: DeepSeek-V2's and -V3's sizes.
LATENT_SIZE: Final = 512
ROTARY_SIZE: Final = 64
MAX_SPLITS: Final = 128
_BF16_BYTES: Final = 2
_NUM_WARPS: Final = 8
_COMBINE_THREADS: Final = 128


@dataclass(frozen=True, slots=True)
class MlaSettings:
    """How `mla_decode` is compiled: heads of a block, tokens of a tile, tiles in shared memory."""

    heads: int
    tokens: int
    stages: int

    @property
    def name(self) -> str:
        """The variant's name."""
        return f"mla-decode-h{self.heads}-t{self.tokens}-s{self.stages}"

    @property
    def shared_bytes(self) -> int:
        """Tiles, queries (or partial scores), the softmax's weights, maxima and their growth."""
        width = LATENT_SIZE + ROTARY_SIZE
        peers = _NUM_WARPS // (self.heads // 16)
        if self.heads == _FEW_HEADS:
            second = self.heads * self.tokens * 4 * peers
        else:
            second = self.heads * width * _BF16_BYTES
        weights = self.heads * self.tokens * _BF16_BYTES
        tiles = self.stages * self.tokens * width * _BF16_BYTES
        return tiles + second + weights + peers * self.heads * 4 + self.heads * 4


_FEW_HEADS: Final = 32
# What a block's shared memory holds: 227 KiB on 9.0, 10.0 and 10.3, 163 KiB on 8.0, else 99 KiB
# (CUDA C++ Programming Guide, technical specifications per compute capability). The more heads a
# block has, the fewer blocks read the same tokens.
_LARGE: Final = (MlaSettings(64, 64, 2), MlaSettings(_FEW_HEADS, 32, 4))
_MEDIUM: Final = (MlaSettings(64, 32, 2), MlaSettings(_FEW_HEADS, 32, 4))
_SMALL: Final = (MlaSettings(_FEW_HEADS, 32, 2),)
_SETTINGS: Final = {
    "sm_80": _MEDIUM,
    "sm_86": _SMALL,
    "sm_89": _SMALL,
    "sm_90a": _LARGE,
    "sm_100a": _LARGE,
    "sm_103a": _LARGE,
    "sm_120a": _SMALL,
}

COMBINE: Final = Variant(
    name="mla-combine",
    source="mla_combine.cu",
    entry="mla_combine",
    defines=(),
    num_threads=_COMBINE_THREADS,
    shared_bytes=0,
    expects=("LDG.E.128",),
)


class MlaArguments(ctypes.Structure):
    """`MlaArguments` of `kernels/mla_decode.cu`; pointers are device addresses.

    queries bf16 `[num_requests, num_heads, 576]`; cache bf16 `[num_pages, page_size, 576]`; pages
    int32 `[num_requests, pages_per_request]`, or null where they lie in order; context_lengths
    int32 `[num_requests]`, each at most pages_per_request * page_size. Written: partials fp32
    `[num_requests, num_splits, num_heads, 512]` and statistics fp32 `[num_requests, num_splits,
    num_heads, 2]`: the maximum, rounded up, in the log2 domain, and the sum; -inf and 0, and no
    partials, where a split has no tokens. `scale_log2` is the softmax's scale times log2(e).
    """

    _fields_ = (
        ("queries", ctypes.c_void_p),
        ("cache", ctypes.c_void_p),
        ("pages", ctypes.c_void_p),
        ("context_lengths", ctypes.c_void_p),
        ("partials", ctypes.c_void_p),
        ("statistics", ctypes.c_void_p),
        ("num_heads", ctypes.c_int32),
        ("num_splits", ctypes.c_int32),
        ("page_size", ctypes.c_int32),
        ("pages_per_request", ctypes.c_int32),
        ("scale_log2", ctypes.c_float),
    )


class MlaCombineArguments(ctypes.Structure):
    """`MlaCombineArguments` of `kernels/mla_combine.cu`: as above, and the outputs.

    Written: outputs bf16 `[num_requests, num_heads, 512]`, zeros where a context is empty.
    """

    _fields_ = (
        ("partials", ctypes.c_void_p),
        ("statistics", ctypes.c_void_p),
        ("outputs", ctypes.c_void_p),
        ("num_heads", ctypes.c_int32),
        ("num_splits", ctypes.c_int32),
    )


def settings(architecture: str) -> tuple[MlaSettings, ...]:
    """Return the settings that fit an architecture's shared memory, for most heads first."""
    return _SETTINGS[architecture]


def variants(architecture: str) -> tuple[Variant, ...]:
    """Return the compiled forms for one architecture."""
    return (*(decode_variant(each) for each in settings(architecture)), COMBINE)


def decode_variant(chosen: MlaSettings) -> Variant:
    """Return the compiled form of one setting."""
    return Variant(
        name=chosen.name,
        source="mla_decode.cu",
        entry="mla_decode",
        defines=(
            ("HEADS", str(chosen.heads)),
            ("TOKENS", str(chosen.tokens)),
            ("STAGES", str(chosen.stages)),
        ),
        num_threads=32 * _NUM_WARPS,
        shared_bytes=chosen.shared_bytes,
        expects=("LDGSTS.E.128", "LDSM.16.M88.4", "LDSM.16.MT88.4", "HMMA.16816.F32.BF16"),
        headers=("mla.cuh",),
    )


def choose(architecture: str, num_heads: int) -> MlaSettings:
    """Return the setting for so many heads: few heads would leave most of a large block idle."""
    most, *_, fewest = (*settings(architecture), *settings(architecture))
    return fewest if num_heads <= fewest.heads else most


def decode_grid(chosen: MlaSettings, num_requests: int, num_heads: int, num_splits: int) -> int:
    """Return the blocks of `mla_decode`."""
    return num_requests * num_splits * -(-num_heads // chosen.heads)


def combine_grid(num_requests: int, num_heads: int) -> int:
    """Return the blocks of `mla_combine`."""
    return num_requests * num_heads


def num_partials(num_requests: int, num_heads: int, num_splits: int) -> int:
    """Return the fp32 values of `partials`."""
    return num_requests * num_splits * num_heads * LATENT_SIZE


def num_statistics(num_requests: int, num_heads: int, num_splits: int) -> int:
    """Return the fp32 values of `statistics`."""
    return num_requests * num_splits * num_heads * 2


def num_splits(
    chosen: MlaSettings,
    *,
    num_requests: int,
    num_heads: int,
    context_length: int,
    num_multiprocessors: int,
) -> int:
    """Return into how many parts the contexts are split, at most `context_length` tokens each.

    The least cost in tiles' time: rounds of blocks (one per multiprocessor at a time), each its
    tiles and about one tile's time to write its partial, which all multiprocessors together read
    once more. Counted from bytes, not measured.
    """
    blocks = decode_grid(chosen, num_requests, num_heads, 1)
    num_tiles = -(-context_length // chosen.tokens)

    def cost(splits: int) -> float:
        rounds = -(-blocks * splits // num_multiprocessors)
        return rounds * (-(-num_tiles // splits) + 1) + blocks * splits / num_multiprocessors

    return min(range(1, min(num_tiles, MAX_SPLITS) + 1), key=cost)
