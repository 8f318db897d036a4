"""A sweep is killed again and again; what it ends with is what an undisturbed one measures."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from moeprof.dataset.read import read_measurements, read_samples

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

ORDER = [("order_index", "ascending"), ("ep_rank", "ascending")]


# A warm-up, two held temperatures, ranks and sentinels, all of it in about a second.
RECIPE = """
name = "kill"
seed = 4

[workload]
models = ["mixtral-8x7b"]
kernels = ["torch-grouped"]
batch_sizes = [1, 4, 16]
patterns = ["uniform"]
placements = [{ num_ranks = 1 }, { strategy = "round-robin", num_ranks = 2 }]

[conditioning]
warm_up_seconds = 20
hold_celsius = [38, 42]

[energy]
window_seconds_min = 0.5
window_seconds_max = 1.0

[order]
num_blocks = 4
sentinel_every = 2
"""


def start(out: Path) -> subprocess.Popen[bytes]:
    recipe = out.parent / "kill.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    command = [sys.executable, "-m", "moeprof", "sweep", str(recipe), "--out", str(out)]
    return subprocess.Popen(
        [*command, "--device", "sim:h200-sxm", "--json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def contents(out: Path) -> tuple[pa.Table, pa.Table]:
    measurements = read_measurements(out).sort_by(ORDER)
    samples = read_samples(out).sort_by([*ORDER, ("sample_index", "ascending")])
    return measurements, samples


@pytest.mark.parametrize("num_wanted", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_kills_lose_nothing_and_change_nothing(tmp_path: Path, num_wanted: int) -> None:
    undisturbed = tmp_path / "undisturbed"
    began = time.monotonic()
    assert start(undisturbed).wait() == 0
    full_seconds = time.monotonic() - began
    expected = contents(undisturbed)
    chance = random.Random(1)  # noqa: S311 - when to kill is no secret

    num_kills = 0
    folder = 0
    while num_kills < num_wanted:
        out = tmp_path / str(folder)
        while True:
            sweep = start(out)
            try:
                done = sweep.wait(chance.uniform(0.2, 1.0) * full_seconds)
            except subprocess.TimeoutExpired:
                os.kill(sweep.pid, signal.SIGKILL)
                done = sweep.wait()
            if done == 0:
                break
            assert done == -signal.SIGKILL
            num_kills += 1
        assert contents(out) == expected
        folder += 1
