"""How long planning 100,000 points takes, and how much memory: target 3 s and 500 MB."""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

from moeprof.recipe.load import load_recipe
from moeprof.sweep.plan import make_plan

RECIPE = """
name = "large"

[workload]
models = ["mixtral-8x7b", "deepseek-v3", "qwen3-30b-a3b", "gpt-oss-120b"]
dtypes = ["bf16", "fp16"]
kernels = ["torch-loop", "torch-grouped"]
batch_sizes = "1..128"
patterns = ["uniform", "balanced", "zipf:1.1", "dirichlet:1", "hot:4@0.5"]

[conditioning]
hold_celsius = [30, 35, 40, 45, 50, 55, 60, 65, 70, 75]
"""


def main() -> None:
    """Plan, and print."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.toml"
        path.write_text(RECIPE, encoding="utf-8")
        start = time.perf_counter()
        plan = make_plan(load_recipe(path))
        seconds = time.perf_counter() - start
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(
        f"{plan.num_points} points planned in {seconds:.2f} s, {megabytes:.0f} MB; "
        "target for 100,000: 3 s, 500 MB"
    )


if __name__ == "__main__":
    main()
