"""The table and the picture of a study: what each variant does to the loss and to the routing."""

from __future__ import annotations

from importlib.util import find_spec
from io import BytesIO
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.table import Table

from moeprof.dataset.files import replace_file
from moeprof.errors import CheckpointError
from moeprof.training.curve import read_curve
from moeprof.training.session import CURVE_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from moeprof.training.study import StudyEnded

PICTURE_NAME: Final = "study.svg"
_COLUMNS: Final = (
    ("bits per byte", "bits_per_byte", 3),
    ("diversity", "diversity_fraction", 2),
    ("of 16 tokens", "step_diversity_fraction", 2),
    ("imbalance", "load_imbalance", 2),
    ("entropy, nats", "router_entropy_nats", 2),
)
_PANELS: Final = ("bits_per_byte", "step_diversity_fraction", "load_imbalance")
_TITLES: Final = ("share of experts that 16 tokens use", "fullest expert over the mean")
_NUM_MEANS: Final = 60
_NUM_COLOURS: Final = 10


def study_table(ended: StudyEnded) -> Table:
    """Return a row per variant: means over its seeds on the test split, ± standard deviation."""
    num_seeds = len(ended.variants[0].runs) + len(ended.variants[0].diverged)
    table = Table(
        title=f"{ended.recipe_name}  ·  test split, mean ± standard deviation of {num_seeds} seeds",
        title_justify="left",
        title_style="bold",
        expand=False,
    )
    table.add_column("variant")
    for title, _, _ in _COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    for variant in ended.variants:
        cells = [
            _spread([getattr(run.test, column) for run in variant.runs], digits)
            for _, column, digits in _COLUMNS
        ]
        name = (
            f"{variant.name} ({len(variant.diverged)} diverged)"
            if variant.diverged
            else variant.name
        )
        table.add_row(name, *cells)
    return table


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    mean = f"{fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {stdev(values):.{digits}f}"


def draw_if_possible(ended: StudyEnded) -> Path | None:
    """Draw the curves of every finished variant as SVG; None where matplotlib is not installed.

    Raises CheckpointError: a run's curve is gone or damaged, or the picture cannot be written.
    """
    drawn_variants = [variant for variant in ended.variants if variant.runs]
    if find_spec("matplotlib") is None or not drawn_variants:
        return None
    from matplotlib import rcParams  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415

    rcParams["svg.hashsalt"] = "moeprof"  # the same picture every time
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    many = figure.subplots(1, len(_PANELS))
    first: NDArray[np.float64] | None = None
    for number, variant in enumerate(drawn_variants):
        curves = [
            read_curve(ended.out / variant.name / f"seed-{run.seed}" / CURVE_NAME)
            for run in variant.runs
        ]
        style = f"C{number % _NUM_COLOURS}" + ("--" if number >= _NUM_COLOURS else "-")
        for axes, name in zip(many, _PANELS, strict=True):
            steps, means = _means(curves, name)
            if name == "bits_per_byte":
                # All variants see the same batches, whose ups and downs would hide the rest.
                first = means if first is None else first
                means = means - first
            axes.plot(steps, means, style, label=variant.name)
    titles = (f"training bits per byte, less those of {drawn_variants[0].name}", *_TITLES)
    for axes, title in zip(many, titles, strict=True):
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("step")
    many[1].set_ylim(0, 1.02)
    many[2].set_ylim(0, None)
    figure.legend(*many[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    path = ended.out / PICTURE_NAME
    drawn = BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    try:
        replace_file(path, drawn.getvalue())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror}") from error
    return path


def _means(
    curves: Sequence[list[dict[str, Any]]], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return steps, and the mean over seeds and stretches of a curve, at most 60 of each."""
    values = np.array([[row[name] for row in curve] for curve in curves]).mean(axis=0)
    parts = np.array_split(np.arange(1, len(values) + 1), min(_NUM_MEANS, len(values)))
    steps = np.array([part.mean() for part in parts])
    return steps, np.array([values[part - 1].mean() for part in parts])
