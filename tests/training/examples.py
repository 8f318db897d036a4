"""Tiny recipes, texts and gates' answers for the tests of training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from moeprof.recipe.load_training import LoadedTraining, load_training
from moeprof.training.gate_watch import GateAnswer

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from moeprof.training.events import StepDone, TrainingStarted

RECIPE = """
name = "tiny"
seed = 3

[model]
hidden_size = 16
num_layers = 1
num_heads = 2
num_key_value_heads = 1
num_experts = 4
top_k = 2
expert_size = 16

[text]
validation_fraction = 0.2
test_fraction = 0.2
num_window_tokens = 16

[optimiser]
num_steps = 20
num_windows_per_step = 4
learning_rate = 0.003
num_warm_up_steps = 2

[watch]
validate_every_steps = 5
num_validation_windows_max = 8
checkpoint_every_seconds = 0

[[losses]]
name = "switch"
weight = 0.01
"""


def recipe_at(folder: Path, text: str = RECIPE) -> LoadedTraining:
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return load_training(path)


def text_at(folder: Path) -> Path:
    path = folder / "text.txt"
    path.write_text("".join(f"{i} times {i} is {i * i}\n" for i in range(200)), encoding="utf-8")
    return path


def answer(logits: Tensor, top_k: int = 1) -> GateAnswer:
    """Return what a softmax gate answers; with equal logits it takes the first experts."""
    experts = logits.detach().argsort(dim=-1, descending=True, stable=True)[:, :top_k]
    return GateAnswer(logits, logits.softmax(dim=-1), experts)


def collapsed(num_tokens: int, num_experts: int) -> GateAnswer:
    """Return the answer of a gate that sends every token to the first expert, surely."""
    logits = torch.full((num_tokens, num_experts), -200.0)
    logits[:, 0] = 200.0
    return answer(logits)


def spread_surely(num_experts: int) -> GateAnswer:
    """Return the answer of a gate that surely gives each expert one token."""
    return answer(torch.eye(num_experts) * 400.0)


class Listener:
    """Keeps what a run tells, and asks it to stop after so many steps."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.began: list[TrainingStarted] = []
        self.steps: list[StepDone] = []
        self.judged: list[str] = []
        self._stop_after = stop_after

    def started(self, event: TrainingStarted) -> None:
        self.began.append(event)

    def stepped(self, event: StepDone) -> None:
        self.steps.append(event)

    def judging(self, what: str) -> None:
        self.judged.append(what)

    def stop_requested(self) -> bool:
        return self._stop_after is not None and len(self.steps) >= self._stop_after
