"""The live panel of a training run: loss, speed, and which experts of each layer are used."""

from __future__ import annotations

import time
from statistics import fmean
from typing import TYPE_CHECKING, Final, Self

from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from moeprof.report import human
from moeprof.report.trained_lines import started_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console, RenderableType

    from moeprof.training.events import StepDone, TrainingStarted

_REFRESH_SECONDS: Final = 0.2
_NUM_LAYERS_SHOWN: Final = 12
_NUM_EXPERTS_SHOWN: Final = 64
_BARS: Final = "▁▂▃▄▅▆▇█"


class TrainingPanel:
    """A panel redrawn in place, only when it is told something."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            expand=True,
        )
        self._task = self._bar.add_task("steps", total=None, left="")
        self._title = "moeprof train"
        self._drawn_at = float("-inf")

    def __enter__(self) -> Self:
        """Draw nothing yet."""
        return self

    def __exit__(self, *error: object) -> None:
        """Give the terminal back, however the run ended."""
        self._live.stop()

    def started(self, event: TrainingStarted) -> None:
        """Say what is trained, and open the panel under it."""
        for line in started_lines(event):
            self._console.print(line, soft_wrap=True)
        self._title = f"{event.recipe_name} · {event.device_name}"
        self._bar.update(self._task, total=event.num_steps, completed=event.first_step)
        self._live.start()

    def stepped(self, event: StepDone) -> None:
        """Redraw the panel, a few times a second at most."""
        now = self._clock()
        if now - self._drawn_at < _REFRESH_SECONDS and event.num_done < event.num_steps:
            return
        self._drawn_at = now
        left = f"{human.duration(event.remaining_seconds)} left"
        self._bar.update(self._task, completed=event.num_done, left=left)
        self._show(Group(self._bar, step_facts(event)))

    def judging(self, what: str) -> None:
        """Say what is done at the end."""
        self._show(Group(self._bar, Text(what)))

    def _show(self, body: RenderableType) -> None:
        panel = Panel(body, title=Text(self._title), title_align="left")
        self._live.update(panel, refresh=True)


def step_facts(event: StepDone) -> Table:
    """Return what a step came to, and a bar for each expert of each layer."""
    routing, reading = event.result.routing, event.reading
    loss = f"{event.result.cross_entropy_nats:.3f} nats per token"
    for name, auxiliary in event.result.losses.items():
        loss += f" · {name} {auxiliary:.2g}"
    validated = event.validation_bits_per_byte
    machine = [
        f"{human.quantity(reading.tokens_per_second, '')} tokens/s",
        human.quantity(reading.peak_bytes, "B"),
        human.watts(reading.watts),
        human.celsius(reading.die_celsius),
    ]
    balance = (
        f"diversity {fmean(routing.diversity_fractions):.2f} · "
        f"imbalance {fmean(routing.load_imbalances):.2f} · "
        f"entropy {fmean(routing.entropies_nats):.2f} nats"
    )
    facts = Table.grid(padding=(0, 2))
    rows = [
        ("loss", loss),
        ("bits per byte", f"{event.bits_per_byte:.3f}"),
        ("validation", human.ABSENT if validated is None else f"{validated:.3f}"),
        ("machine", " · ".join(each for each in machine if each != human.ABSENT)),
        ("routing", balance),
    ]
    for layer, loads in enumerate(routing.load_fractions[:_NUM_LAYERS_SHOWN]):
        rows.append((f"experts of gate {layer}", load_bars(loads)))
    for name, value in rows:
        facts.add_row(Text(name, "dim"), Text(value))
    return facts


def load_bars(loads: Sequence[float]) -> str:
    """Return a bar per expert, a full one for the fullest, a dot for one without tokens."""
    most = max(loads)
    bars = [
        "·" if load == 0 else _BARS[min(int(load / most * len(_BARS)), len(_BARS) - 1)]
        for load in loads[:_NUM_EXPERTS_SHOWN]
    ]
    return "".join(bars) + ("…" if len(loads) > _NUM_EXPERTS_SHOWN else "")
