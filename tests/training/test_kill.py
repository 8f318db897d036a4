"""A run is killed again and again; it ends with the loss curve of an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import torch
from training.examples import RECIPE, Listener, recipe_at, text_at

from moeprof.training.run import TrainingRequest, train

if TYPE_CHECKING:
    from pathlib import Path

NUM_STEPS = 300
LONG = RECIPE.replace("num_steps = 20", f"num_steps = {NUM_STEPS}").replace(
    "checkpoint_every_seconds = 0", "checkpoint_every_seconds = 0.05"
)


def start(folder: Path) -> subprocess.Popen[bytes]:
    (folder / "tiny.toml").write_text(LONG, encoding="utf-8")
    command = [sys.executable, "-m", "moeprof", "train", str(folder / "tiny.toml")]
    command += ["--out", str(folder / "out"), "--text", str(text_at(folder)), "--device", "cpu"]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def undisturbed(folder: Path) -> None:
    """Train the same in this process, with as many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        request = TrainingRequest(
            recipe_at(folder, LONG), folder / "out", (text_at(folder),), selector="cpu"
        )
        train(request, observer=Listener())
    finally:
        torch.set_num_threads(before)


def wait_until(path: Path, num_bytes: int, run: subprocess.Popen[bytes]) -> None:
    """Return when a file has grown to `num_bytes`, or the run has ended."""
    while run.poll() is None and (not path.exists() or path.stat().st_size < num_bytes):
        time.sleep(0.005)


@pytest.mark.parametrize("num_kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_change_no_bit_of_the_loss_curve(tmp_path: Path, num_kills: int) -> None:
    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
    undisturbed(tmp_path / "undisturbed")
    expected = (tmp_path / "undisturbed" / "out" / "curve.jsonl").read_bytes()
    chance = random.Random(1)  # noqa: S311 - when to kill is no secret
    curve = tmp_path / "killed" / "out" / "curve.jsonl"
    # Moments spread over the whole run, each a random one of its stretch.
    moments = [(number + chance.random()) / num_kills for number in range(num_kills)]
    for moment in moments:
        run = start(tmp_path / "killed")
        wait_until(curve, int(moment * len(expected)), run)
        time.sleep(chance.uniform(0, 0.02))
        os.kill(run.pid, signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL

    assert start(tmp_path / "killed").wait() == 0
    assert curve.read_bytes() == expected
    weights = [tmp_path / name / "out" / "model.safetensors" for name in ("undisturbed", "killed")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_ctrl_c_keeps_the_run_and_says_how_to_go_on(tmp_path: Path) -> None:
    run = start(tmp_path)
    wait_until(tmp_path / "out" / "curve.jsonl", 1000, run)
    run.send_signal(signal.SIGINT)

    assert run.wait() == 130
    assert (tmp_path / "out" / "state" / "checkpoint.safetensors").is_file()
    assert not (tmp_path / "out" / "train.json").exists()
