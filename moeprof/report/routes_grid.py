"""A table of a comparison of routers, for a terminal and as Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Grid:
    """Cells in rows under heads; the first `num_texts` columns are texts, the others figures.

    A line break in a head is one in a terminal only. Before each of `sections`, numbers of rows,
    a terminal has a line.
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_texts: int = 1
    sections: frozenset[int] = frozenset()


def terminal_table(grid: Grid) -> Table:
    """Return the grid for a console; no cell is cut, texts fold."""
    table = Table(
        title=grid.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    for place, head in enumerate(grid.heads):
        is_text = place < grid.num_texts
        table.add_column(
            head,
            justify="left" if is_text else "right",
            overflow="fold",
            no_wrap=not is_text or place == 0,
        )
    for place, row in enumerate(grid.rows):
        if place in grid.sections:
            table.add_section()
        table.add_row(*row)
    return table


def markdown_table(grid: Grid) -> Iterator[str]:
    """Yield the grid's lines in GitHub's Markdown, its title before them."""
    yield f"**{as_plain(grid.title)}**"
    yield ""
    yield _line(grid.heads)
    rules = zip_longest(("---",) * grid.num_texts, grid.heads, fillvalue=None)
    yield f"|{'|'.join(rule or '---:' for rule, _ in rules)}|"
    yield from map(_line, grid.rows)
    yield ""


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(as_plain(cell.strip()) for cell in cells)} |"


def as_plain(text: str) -> str:
    """Return a text that GitHub shows as it is: names may hold what Markdown reads as its own."""
    for character in "\\|*_`<":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")
