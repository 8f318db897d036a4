"""Run the Triton kernels in the interpreter and print what they were off, as JSON.

A process of its own: TRITON_INTERPRET must be set before anything imports triton.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import replace
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn.functional import silu
from triton.runtime.interpreter import InterpretedFunction

from moeprof.device.protocol import DeviceIdentity
from moeprof.kernel import bank
from moeprof.kernel.buffers import Buffers, allocate
from moeprof.kernel.reference import quantised_rows, relative_error
from moeprof.kernel.triton_tiles import Tile
from moeprof.kernel.triton_work import TritonExperts, TritonWork
from moeprof.workload.layer import MoELayer
from moeprof.workload.workload import Workload

CPU = DeviceIdentity(kind="cpu", name="test CPU", uuid="CPU-triton")
DEVICE: Any = SimpleNamespace(
    identity=CPU,
    torch_device=torch.device("cpu"),
    l2_bytes=200_000,
    free_bytes=lambda: 10**9,
)
NAN = float("nan")
# dtype, experts of the model and of the rank, top-k, hidden and expert size, tile: sizes that fill
# their tiles and sizes that do not, up to two steps deep and two blocks wide.
LAYERS = (
    ("bf16", 4, 4, 2, 64, 64, Tile(16, 128, 64, 4, 1)),
    ("bf16", 8, 4, 3, 96, 72, Tile(16, 128, 64, 4, 1)),
    ("bf16", 8, 5, 2, 128, 128, Tile(16, 128, 128, 4, 1)),
    ("fp8_block", 4, 4, 2, 128, 64, Tile(16, 128, 128, 4, 1)),
    ("fp8_block", 8, 4, 3, 80, 112, Tile(16, 128, 128, 4, 1)),
    ("fp8_block", 4, 3, 2, 192, 128, Tile(16, 256, 128, 4, 1)),
)
NAMED = {
    "random": (1, 3, 0, 2, 5, 0, 1, 4),
    "empty experts": (0, 0, 2, 0, 0, 0, 0, 1),
    "hot": (1, 40, 1, 1, 1, 1, 1, 1),
    "all on one": (0, 0, 0, 0, 0, 17, 0, 0),
    "all on the last": (0, 0, 0, 0, 0, 0, 0, 2),
    "one row": (1, 0, 0, 0, 0, 0, 0, 0),
    "partial rank": (2, 0, 1),
}


def workload(rows: Any, dtype: str, sizes: tuple[int, int], top_k: int = 2) -> Workload:
    layer = MoELayer(
        name="l", hidden_size=sizes[0], expert_size=sizes[1], num_experts=8, top_k=top_k
    )
    return Workload("m", layer, dtype, dtype, 4, "given", 0, "none", 1, 0, 1, rows)


def norm_ratio(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


def draw(rng: random.Random, num_experts: int, num_local: int, top_k: int) -> list[list[int]]:
    """Return the experts of each token, some of them on other ranks; at least one is here."""
    while True:
        num_tokens = rng.randint(1, 3)
        # A skewed draw now and then: a hot expert, or all tokens on the same ones.
        weights = [rng.random() ** rng.choice((0, 1, 8)) for _ in range(num_experts)]
        tokens = [
            sorted(range(num_experts), key=lambda e: rng.random() ** (1 / (weights[e] + 1e-9)))
            for _ in range(num_tokens)
        ]
        chosen = [experts[-top_k:] for experts in tokens]
        if any(expert < num_local for experts in chosen for expert in experts):
            return chosen


def routed(base: Buffers, chosen: list[list[int]], num_local: int, seed: int) -> Buffers:
    """Return buffers of this routing, on the weights of others; fp32 before the last rounding."""
    hidden_size, expert_size = base.rows.shape[2], base.hidden.shape[1]
    pairs = sorted(
        (expert, token)
        for token, experts in enumerate(chosen)
        for expert in experts
        if expert < num_local
    )
    num_rows, num_tokens, top_k = len(pairs), len(chosen), len(chosen[0])
    counts = [sum(expert == e for expert, _ in pairs) for e in range(num_local)]
    token_rows = torch.full((num_tokens, top_k), -1, dtype=torch.int32)
    taken = [0] * num_tokens
    for row, (_, token) in enumerate(pairs):
        token_rows[token, taken[token]] = row
        taken[token] += 1
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(1, num_tokens, hidden_size, generator=generator).to(base.tokens.dtype)
    row_tokens = torch.tensor([token for _, token in pairs], dtype=torch.int32)
    named = workload(tuple(counts), base.workload.weight_dtype, (hidden_size, expert_size), top_k)
    return replace(
        base,
        workload=named,
        rows=tokens[:, row_tokens],
        outputs=torch.full((1, num_tokens, hidden_size), NAN),
        hidden=torch.full((num_rows, expert_size), NAN),
        row_ends=torch.tensor(list(accumulate(counts)), dtype=torch.int32),
        tokens=tokens,
        row_tokens=row_tokens,
        row_weights=torch.rand(num_rows, generator=generator),
        token_rows=token_rows,
        first_slots=base.first_slots[:1],
    )


def weights_of(buffers: Buffers) -> tuple[torch.Tensor, torch.Tensor]:
    """Return gate_up and down in float64, scaled."""
    both = []
    for weights, scales in (
        (buffers.gate_up(0), buffers.gate_up_scales(0)),
        (buffers.down(0), buffers.down_scales(0)),
    ):
        exact = weights.double()
        if scales is not None:
            spread = scales.double().repeat_interleave(128, 1)[:, : exact.shape[1]]
            exact = exact * spread.repeat_interleave(128, 2)[:, :, : exact.shape[2]]
        both.append(exact)
    return both[0], both[1]


def errors(work: TritonWork, gate_up: torch.Tensor, down: torch.Tensor) -> tuple[float, float]:
    """Launch, and return what hidden, and outputs on that hidden, were off."""
    buffers = work.buffers
    work.launch(0)
    fp8 = buffers.workload.weight_dtype == "fp8_block"
    rows, found = buffers.rows[0], buffers.hidden
    rows = quantised_rows(rows) if fp8 else rows.double()
    held = quantised_rows(found) if fp8 else found.double()
    counts = torch.tensor(buffers.workload.rows_per_expert)
    experts = torch.arange(len(counts)).repeat_interleave(counts)
    gate, up = torch.einsum("rk,rnk->rn", rows, gate_up[experts]).chunk(2, 1)
    by_row = torch.einsum("rk,rnk->rn", held, down[experts])
    exact = torch.zeros(work.output(0).shape, dtype=torch.float64)
    exact.index_add_(0, buffers.row_tokens.long(), by_row * buffers.row_weights.double()[:, None])
    return norm_ratio(found, silu(gate) * up), norm_ratio(work.output(0), exact)


def random_routings(count: int) -> dict[str, Any]:
    rng = random.Random(7)  # noqa: S311 - routings, not secrets
    found: dict[str, Any] = {}
    for number, (dtype, num_experts, num_local, top_k, *sizes, tile) in enumerate(LAYERS):
        one = workload((1,) * num_local, dtype, (sizes[0], sizes[1]), top_k)
        base = allocate(one, DEVICE, l2_state="warm", seed=number, combined=True)
        gate_up, down = weights_of(base)
        each = []
        for seed in range(number, count, len(LAYERS)):
            chosen = draw(rng, num_experts, num_local, top_k)
            work = TritonWork(routed(base, chosen, num_local, seed), tile)
            each.append(errors(work, gate_up, down))
        found[f"{dtype} {sizes[0]}x{sizes[1]}"] = {
            "routings": len(each),
            "hidden": sorted(hidden for hidden, _ in each),
            "outputs": sorted(outputs for _, outputs in each),
        }
    return found


def named_routings() -> dict[str, Any]:
    found = {}
    for dtype in ("bf16", "fp16", "fp32", "fp8_block"):
        for name, rows in NAMED.items():
            bank.clear_banks()
            sizes = (144, 80) if dtype == "fp8_block" else (64, 48)
            work = TritonExperts().bind(
                workload(rows, dtype, sizes), DEVICE, l2_state="cold", seed=3
            )
            last = work.num_buffer_sets - 1
            poisoned = bool(work.output(last).isnan().all())
            found[f"{dtype}, {name}"] = {
                "poisoned": poisoned,
                "error": relative_error(work, last),
                "choice": work.choice.kernel,
            }
    return found


def call_quickly() -> None:
    """Let a function that a kernel calls patch triton.language once, not in every call.

    The interpreter's habit takes half of its time; what the first call patched stays patched.
    """
    function, seen = InterpretedFunction, set()
    patching = function.__call__

    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        where = id(self.fn.__globals__)
        if where in seen:
            return self.rewrite()(*arguments, **named)
        seen.add(where)
        return patching(self, *arguments, **named)

    function.__call__ = call


if __name__ == "__main__":
    call_quickly()
    what, count = sys.argv[1], int(sys.argv[2])
    results = random_routings(count) if what == "random" else named_routings()
    json.dump(results, sys.stdout)
