"""One process's part of a training run: its steps, told to an observer and kept on the disk."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final, Self

from moeprof.errors import LossDiverged
from moeprof.gate.site import find_gates
from moeprof.training.checkpoint import Place, save_checkpoint
from moeprof.training.curve import Curve
from moeprof.training.events import StepDone, TrainingStarted
from moeprof.training.identity import concerns, conditions
from moeprof.training.judge import bits_per_byte
from moeprof.training.learner import Learner
from moeprof.training.machine import Machine
from moeprof.training.windows import judged_batches, training_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch
    from torch import Tensor

    from moeprof.device.protocol import Device
    from moeprof.recipe.load_training import LoadedTraining
    from moeprof.training.beginning import Beginning
    from moeprof.training.corpus import Corpus
    from moeprof.training.events import Reading, TrainingObserver
    from moeprof.training.learner import StepResult
    from moeprof.training.texts import SplitTexts

CURVE_NAME: Final = "curve.jsonl"
READINGS_NAME: Final = "machine.jsonl"


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """What a run is made of, once all of it has been found in order."""

    loaded: LoadedTraining
    out: Path
    checkpoint: Path
    corpus: Corpus
    texts: SplitTexts
    beginning: Beginning
    identity: dict[str, str]
    device: Device
    place: torch.device
    has_yardstick: bool
    """Whether the 3-gram byte model is fitted at the end."""


class Session:
    """Steps from a run's place on; entered, it listens to the gates and holds its files open."""

    def __init__(
        self, setting: Setting, observer: TrainingObserver, *, clock: Callable[[], float]
    ) -> None:
        self._setting = setting
        self._recipe = setting.loaded.recipe
        self._observer = observer
        self._clock = clock
        self.learner = Learner(setting.beginning.model, self._recipe, setting.place)
        self.num_done = 0
        self.spent_seconds = 0.0
        self.best: tuple[float, int] | None = None
        """The least validation bits per byte, and the number of steps after which it was."""
        self.validation: float | None = None
        """The last validation bits per byte."""
        self._curve: Curve | None = None
        self._readings: Curve | None = None

    def __enter__(self) -> Self:
        """Listen to the gates."""
        self.learner.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Let the files and the gates go."""
        self.learner.__exit__(*error)
        for file in (self._curve, self._readings):
            if file is not None:
                file.close()

    def begin(self, found: tuple[Place, Mapping[str, Tensor]] | None) -> None:
        """Take up a checkpoint, or begin anew, and tell the observer. Raises CheckpointError."""
        worries: tuple[str, ...] = ()
        if found is not None:
            place, tensors = found
            self.learner.restore(tensors, self._setting.checkpoint)
            self.num_done, self.spent_seconds = place.num_done, place.spent_seconds
            self.validation = place.validation_bits_per_byte
            if place.best_bits_per_byte is not None and place.best_step is not None:
                self.best = place.best_bits_per_byte, place.best_step
            worries = concerns(place.conditions, conditions())
        sizes = (found[0].num_curve_bytes, found[0].num_reading_bytes) if found else (0, 0)
        self._curve = Curve.at(self._setting.out / CURVE_NAME, sizes[0])
        self._readings = Curve.at(self._setting.out / READINGS_NAME, sizes[1])
        self._observer.started(self._started(worries))

    def run(self, stop_requested: Callable[[], bool]) -> bool:
        """Learn until all steps are done, and say so; False: the user asked to stop before."""
        num_steps = self._recipe.optimiser.num_steps
        machine = Machine(self._setting.device, self._setting.place, clock=self._clock)
        first, spent_before = self.num_done, self.spent_seconds
        began = kept_at = self._clock()
        while self.num_done < num_steps:
            result, is_validated = self._step()
            reading = machine.read(self._tokens_per_step)
            self._add(result, reading, is_validated=is_validated)
            now = self._clock()
            self.spent_seconds = spent_before + now - began
            left = (now - began) / (self.num_done - first) * (num_steps - self.num_done)
            self._observer.stepped(
                StepDone(
                    num_done=self.num_done,
                    num_steps=num_steps,
                    result=result,
                    bits_per_byte=self._bits_per_byte(result.cross_entropy_nats),
                    validation_bits_per_byte=self.validation,
                    is_validated=is_validated,
                    reading=reading,
                    remaining_seconds=left,
                )
            )
            stop = stop_requested()
            due = now - kept_at >= self._recipe.watch.checkpoint_every_seconds
            if stop or due or self.num_done == num_steps:
                self._keep()
                kept_at = self._clock()
            if stop:
                break
        return self.num_done == num_steps

    @property
    def _tokens_per_step(self) -> int:
        return self._recipe.optimiser.num_windows_per_step * self._recipe.text.num_window_tokens

    def _step(self) -> tuple[StepResult, bool]:
        """Learn from the next batch; validate where it is time to."""
        batch = training_batch(
            self._setting.texts.train,
            step=self.num_done,
            num_windows=self._recipe.optimiser.num_windows_per_step,
            length=self._recipe.text.num_window_tokens,
            seed=self._recipe.seed,
        )
        result = self.learner.step(self.num_done, batch)
        if not math.isfinite(result.cross_entropy_nats) or not math.isfinite(result.gradient_norm):
            raise LossDiverged(
                f"{self._setting.loaded.path}: the loss grew without bound at step {self.num_done}",
                hint="Give a smaller optimiser.learning_rate, or smaller weights of the losses.",
            )
        self.num_done += 1
        watch, num_steps = self._recipe.watch, self._recipe.optimiser.num_steps
        is_validated = self.num_done % watch.validate_every_steps == 0 or self.num_done == num_steps
        if is_validated:
            text = self._setting.texts.validation
            batches = judged_batches(
                text,
                length=self._recipe.text.num_window_tokens,
                num_per_batch=self._recipe.optimiser.num_windows_per_step,
                num_windows_max=watch.num_validation_windows_max,
            )
            self.validation = bits_per_byte(self.learner.nats_per_token(batches), text)
            if self.best is None or self.validation < self.best[0]:
                self.best = self.validation, self.num_done
        return result, is_validated

    def _bits_per_byte(self, nats_per_token: float) -> float:
        return bits_per_byte(nats_per_token, self._setting.texts.train)

    def _add(self, result: StepResult, reading: Reading, *, is_validated: bool) -> None:
        """Write a line to each file: what a rerun repeats to the bit, and what it cannot."""
        assert self._curve is not None, "the session has begun"
        assert self._readings is not None, "the session has begun"
        routing = result.routing
        row: dict[str, Any] = {
            "step": self.num_done,
            "cross_entropy_nats": result.cross_entropy_nats,
            "bits_per_byte": self._bits_per_byte(result.cross_entropy_nats),
            "losses": result.losses,
            "gradient_norm": result.gradient_norm,
            "diversity_fraction": fmean(routing.diversity_fractions),
            "step_diversity_fraction": fmean(routing.step_diversity_fractions),
            "load_imbalance": fmean(routing.load_imbalances),
            "router_entropy_nats": fmean(routing.entropies_nats),
            "validation_bits_per_byte": self.validation if is_validated else None,
        }
        self._curve.add(row)
        self._readings.add({"step": self.num_done, **asdict(reading)})

    def _keep(self) -> None:
        assert self._curve is not None, "the session has begun"
        assert self._readings is not None, "the session has begun"
        # The lines first: a checkpoint never counts what is not on the disk.
        self._curve.sync()
        self._readings.sync()
        place = Place(
            identity=self._setting.identity,
            conditions=conditions(),
            num_done=self.num_done,
            num_curve_bytes=self._curve.num_bytes,
            num_reading_bytes=self._readings.num_bytes,
            spent_seconds=self.spent_seconds,
            validation_bits_per_byte=self.validation,
            best_bits_per_byte=self.best[0] if self.best else None,
            best_step=self.best[1] if self.best else None,
        )
        save_checkpoint(self._setting.checkpoint, place, self.learner.tensors())

    def _started(self, worries: tuple[str, ...]) -> TrainingStarted:
        sites = find_gates(self.learner.model)
        return TrainingStarted(
            recipe_name=self._recipe.name,
            out=self._setting.out,
            device_name=self._setting.device.identity.name,
            text_source=self._setting.corpus.source,
            num_train_bytes=len(self._setting.corpus.train),
            num_parameters=sum(each.numel() for each in self.learner.model.parameters()),
            num_layers=len(sites),
            num_experts=sites[0].rule.num_experts,
            top_k=sites[0].rule.top_k,
            num_steps=self._recipe.optimiser.num_steps,
            first_step=self.num_done,
            concerns=worries,
        )
