"""A picture of how often intervals hold the truth, ours beside those that a peer's rule gives."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from scipy.stats import binomtest

from moeprof.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from moeprof.selfcheck.finding import Finding

OURS = "interval_coverage"
PEERS = "coverage_of_stdrel"
_DECLARED = 0.95
_PROMISED = (0.93, 0.97)


def check_drawing(path: Path) -> None:
    """Raise UsageError if pictures cannot be drawn, because matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise UsageError(
            f"{path}: pictures need matplotlib, which is not installed",
            hint="pip install 'moeprof[report]'",
        )


def draw_coverage(findings: Sequence[Finding], path: Path) -> None:
    """Write the picture as SVG, from the findings `interval_coverage` and `coverage_of_stdrel`.

    Does nothing without the findings. What `check_drawing` asks for has to be there.
    """
    by_name = {each.name: each for each in findings}
    if not by_name.get(OURS) or not by_name.get(PEERS):
        return
    from matplotlib import rcParams  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415

    rcParams["svg.hashsalt"] = "moeprof"  # the same picture every time
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.axhspan(*_PROMISED, color="tab:green", alpha=0.15, label="promised: 93 % to 97 %")
    axes.axhline(_DECLARED, color="black", linewidth=0.8, linestyle="--")
    series = (
        (OURS, "moeprof", "tab:blue", "o"),
        (PEERS, "nvbench's stdrel rule, mean ± 1.96 σ/√n", "tab:orange", "s"),
    )
    for name, label, colour, marker in series:
        bins = by_name[name].by
        shares, errors = _with_errors(bins)
        axes.errorbar(
            list(bins), shares, yerr=errors, label=label, color=colour, marker=marker, capsize=3
        )
    axes.set_xlabel("autocorrelation ρ of neighbouring samples")
    axes.set_ylabel("95 % intervals that hold the truth")
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    axes.legend(loc="lower left", frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None})


def _with_errors(
    bins: Mapping[str, Mapping[str, float]],
) -> tuple[list[float], tuple[list[float], list[float]]]:
    """Return the shares, and how far below and above them their 95 % intervals reach."""
    shares, below, above = [], [], []
    for each in bins.values():
        share, num_trials = each["achieved"], int(each["num_trials"])
        bounds = binomtest(round(share * num_trials), num_trials).proportion_ci(0.95)
        shares.append(share)
        below.append(share - bounds.low)
        above.append(bounds.high - share)
    return shares, (below, above)
