"""What every router takes on the CPU for one layer, beside a softmax and torch.topk of its logits.

All are called in turn, so that a change of the machine's speed meets them alike. Prints medians,
and their ratio to plain softmax and top-k. Knobs are such that something is re-routed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING, Any

import torch

from moeprof.gate.softmax import SoftmaxRule
from moeprof.router import RoutingContext, load_router, router_names
from moeprof.workload.placement import place

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPES = ((256, 256, 8), (16, 32, 4))
"""Tokens, experts and top k."""
TARGET = 3.0  # times plain, of marginal-cost at the first shape


def knobs_of(name: str, num_experts: int, top_k: int) -> dict[str, Any]:
    """Return knobs that make a router do something; one that is not known has its defaults."""
    kept = num_experts // 2
    knobs: dict[str, dict[str, Any]] = {
        "oea": {"base_k": max(top_k // 2, 1)},
        "lynx": {"num_experts_kept": kept},
        "xshare": {"num_experts_kept": kept},
        "laser": {"peaked_fraction": 0.8, "viable_fraction": 0.2},
        "capacity-drop": {"capacity_factor": 1.0},
        "capacity-expanded": {"capacity_factor": 1.0},
        "sere": {"num_primary": 1, "similarities": {0: torch.eye(num_experts)}},
        "logit-penalty": {"penalty_nats": 1.0, "costs": torch.rand(num_experts)},
        "marginal-cost": {"lambda_": 0.2},
    }
    return knobs.get(name, {})


def timed(calls: dict[str, Callable[[], object]], num_rounds: int) -> dict[str, float]:
    """Return each call's median seconds over rounds in which all take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(num_rounds + 10):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= 10:  # noqa: PLR2004 - the first ten warm up
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def main() -> None:
    """Time every router at every shape, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    for num_tokens, num_experts, top_k in SHAPES:
        logits = torch.randn(num_tokens, num_experts)
        rule = SoftmaxRule(num_experts, top_k, renormalised=True, float32_weights=True)
        alone = RoutingContext(0, rule)
        placed = RoutingContext(
            0, rule, place("contiguous", num_experts=num_experts, num_ranks=8, seed=0)
        )

        def plain(logits: torch.Tensor = logits, top_k: int = top_k) -> object:
            return torch.softmax(logits, dim=-1, dtype=torch.float32).topk(top_k, dim=-1)

        calls: dict[str, Callable[[], object]] = {"softmax, torch.topk": plain}
        for name in router_names():
            router = load_router(name, **knobs_of(name, num_experts, top_k))
            calls[name] = lambda r=router, x=logits, c=alone: r.route(x, c)
            if name == "marginal-cost":
                calls[f"{name}, 8 ranks"] = lambda r=router, x=logits, c=placed: r.route(x, c)
        found = timed(calls, asked.rounds)
        base = found["softmax, torch.topk"]
        print(f"{num_tokens} tokens x {num_experts} experts, top {top_k}, median of {asked.rounds}")
        for name, seconds in found.items():
            print(f"  {name:<24}{seconds * 1e6:9.1f} us {seconds / base:7.2f} x")
    print(f"target of marginal-cost at {SHAPES[0]}: at most {TARGET:.0f} x")


if __name__ == "__main__":
    main()
