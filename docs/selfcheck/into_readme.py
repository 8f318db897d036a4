"""Put the table that `moeprof selfcheck --out docs/selfcheck` has written into the README."""

from __future__ import annotations

from pathlib import Path

START, END = "<!-- selfcheck -->\n", "<!-- selfcheck ends -->"
HERE = Path(__file__).resolve().parent
README = HERE.parents[1] / "README.md"


def spliced(readme: str, table: str) -> str:
    """Return the README with the table between its two marks."""
    before, _, rest = readme.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table}\n{END}{after}"


if __name__ == "__main__":
    table = (HERE / "selfcheck.md").read_text(encoding="utf-8")
    README.write_text(spliced(README.read_text(encoding="utf-8"), table), encoding="utf-8")
