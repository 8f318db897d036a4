"""The shape of an attention block, as far as its weights and KV cache go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.errors import WorkloadError

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEEDED = {
    "gqa": ("num_kv_heads",),
    "mla": ("kv_lora_rank", "q_lora_rank", "rope_head_size", "value_head_size"),
}


@dataclass(frozen=True, slots=True)
class Attention:
    """Grouped-query ("gqa") or multi-head latent ("mla") attention of one layer.

    For gqa, `num_kv_heads` is set and `head_size` is that of queries, keys and values. For mla,
    `kv_lora_rank`, `q_lora_rank`, `rope_head_size` and `value_head_size` are set, and `head_size`
    is the part of a query or key head without rotary embedding (DeepSeek-V2, arXiv 2405.04434).
    `num_sliding_layers` of the model's layers see only the last `sliding_window` tokens.

    Raises:
        WorkloadError: the kind is unknown, a size is below 1, or a field that the kind needs is
            absent.

    """

    kind: str
    num_heads: int
    head_size: int
    num_kv_heads: int | None = None
    kv_lora_rank: int | None = None
    q_lora_rank: int | None = None
    rope_head_size: int | None = None
    value_head_size: int | None = None
    sliding_window: int | None = None
    num_sliding_layers: int = 0

    def __post_init__(self) -> None:
        """Refuse impossible shapes."""
        for fault in self._faults():
            message = f"attention: {fault}"
            raise WorkloadError(message, hint="Correct the attention block's sizes.")

    def kv_elements_per_token(self) -> int:
        """Return the elements that one token keeps in the KV cache of one layer.

        gqa keeps a key and a value per KV head; mla keeps one compressed vector of `kv_lora_rank`
        and one rotary key of `rope_head_size` shared by all heads (arXiv 2405.04434, section 2.1).
        """
        if self.kind == "gqa":
            return 2 * _present(self.num_kv_heads) * self.head_size
        return _present(self.kv_lora_rank) + _present(self.rope_head_size)

    def weights(self, hidden_size: int) -> int:
        """Return the weights of one layer's attention, without norms and biases."""
        if self.kind == "gqa":
            heads = 2 * self.num_heads + 2 * _present(self.num_kv_heads)
            return heads * self.head_size * hidden_size
        rope = _present(self.rope_head_size)
        value = _present(self.value_head_size)
        q_rank = _present(self.q_lora_rank)
        kv_rank = _present(self.kv_lora_rank)
        query = q_rank * (hidden_size + self.num_heads * (self.head_size + rope))
        down = hidden_size * (kv_rank + rope)
        up = kv_rank * self.num_heads * (self.head_size + value)
        output = self.num_heads * value * hidden_size
        return query + down + up + output

    def _faults(self) -> Iterator[str]:
        if self.kind not in _NEEDED:
            yield f"kind must be one of {', '.join(_NEEDED)}, got {self.kind!r}"
            return
        needed = ["num_heads", "head_size", *_NEEDED[self.kind]]
        if self.num_sliding_layers:
            needed.append("sliding_window")
        for field in needed:
            found = getattr(self, field)
            if found is None or found < 1:
                yield f"{field} must be at least 1 for {self.kind}, got {found}"
        if self.num_sliding_layers < 0:
            yield f"num_sliding_layers must be at least 0, got {self.num_sliding_layers}"


def _present(size: int | None) -> int:
    assert size is not None  # __post_init__ has seen to it
    return size
