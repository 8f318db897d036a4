"""How pictures of a comparison of routers are begun, labelled and ended."""

from __future__ import annotations

from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from moeprof.evaluation.policies import BUNDLED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

OURS: Final = "tab:blue"
_SEER: Final = "black"
_OTHERS: Final = (
    *("tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:olive"),
    *("tab:cyan", "tab:gray", "goldenrod", "teal", "indigo", "sienna", "crimson"),
    *("darkgreen", "orchid", "slategray", "chocolate", "navy", "darkkhaki"),
)


def can_draw() -> bool:
    """Whether matplotlib, which is an extra, is installed."""
    return find_spec("matplotlib") is not None


@contextmanager
def drawing() -> Iterator[None]:
    """Set inside what makes a picture the same every time."""
    from matplotlib import rc_context  # noqa: PLC0415 - an extra

    with rc_context({"svg.hashsalt": "moeprof", "font.size": 9, "axes.titlesize": 10}):
        yield


def figure_of(num_panels: int, title: str, *, width: float, height: float) -> tuple[Any, list[Any]]:
    """Return a figure, in inches, and its panels side by side."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    panels = figure.subplots(1, num_panels, squeeze=False)
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, list(panels.flat)


def as_svg(figure: Any) -> bytes:
    """Return the figure as SVG, without a date."""
    drawn = BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()


def colours_of(policies: Iterable[str], seers: frozenset[str]) -> dict[str, str]:
    """Return a colour for each policy: ours always the same, who sees the truth black."""
    rivals = [each for each in policies if each != BUNDLED and each not in seers]
    found = {each: _OTHERS[place % len(_OTHERS)] for place, each in enumerate(rivals)}
    return found | dict.fromkeys(seers, _SEER) | {BUNDLED: OURS}


def spread_out(places: Sequence[float], *, gap: float) -> list[float]:
    """Return places in 0..1 as near as possible to those given, `gap` or more apart.

    Neighbours that are too near share what they lack (pool adjacent violators). Where all do not
    fit with the gap, they are spread evenly.
    """
    count = len(places)
    if count == 0:
        return []
    gap = min(gap, 1 / count)
    order = sorted(range(count), key=lambda place: (places[place], place))
    # Without the gaps, places must not fall; blocks of equal ones are their mean.
    blocks: list[tuple[float, int]] = []
    for rank, place in enumerate(order):
        block = (places[place] - rank * gap, 1)
        while blocks and blocks[-1][0] >= block[0]:
            mean, number = blocks.pop()
            total = number + block[1]
            block = ((mean * number + block[0] * block[1]) / total, total)
        blocks.append(block)
    highest = 1 - (count - 1) * gap
    found = [0.0] * count
    means = [mean for mean, number in blocks for _ in range(number)]
    for rank, (place, mean) in enumerate(zip(order, means, strict=True)):
        found[place] = min(max(mean, 0.0), highest) + rank * gap
    return found
