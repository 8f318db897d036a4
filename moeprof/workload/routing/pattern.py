"""The routing patterns, each a frozen value whose text is its canonical form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Uniform:
    """Each token takes k distinct experts, all equally likely."""

    def __str__(self) -> str:
        return "uniform"


@dataclass(frozen=True, slots=True)
class Balanced:
    """Row counts of any two experts differ by at most one."""

    def __str__(self) -> str:
        return "balanced"


@dataclass(frozen=True, slots=True)
class Strided:
    """Slot j of token i takes expert i + j x stride; see `strided`."""

    def __str__(self) -> str:
        return "strided"


@dataclass(frozen=True, slots=True)
class Active:
    """Exactly `num_active` experts get rows, and their row counts differ by at most one."""

    num_active: int

    def __str__(self) -> str:
        return f"active:{self.num_active}"


@dataclass(frozen=True, slots=True)
class Zipf:
    """The expert of popularity rank r (1 the most popular) has weight r^-exponent."""

    exponent: float

    def __str__(self) -> str:
        return f"zipf:{_shortest(self.exponent)}"


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """Row counts are shares of a truncated power-law sample; see `power_law`."""

    exponent: float

    def __str__(self) -> str:
        return f"power_law:{_shortest(self.exponent)}"


@dataclass(frozen=True, slots=True)
class PackedPowerLaw:
    """As a power law, but what rounding leaves over is packed on few experts; see `packed`."""

    exponent: float

    def __str__(self) -> str:
        return f"packed_power_law:{_shortest(self.exponent)}"


@dataclass(frozen=True, slots=True)
class Dirichlet:
    """The weights of the experts are one draw of a symmetric Dirichlet distribution."""

    concentration: float

    def __str__(self) -> str:
        return f"dirichlet:{_shortest(self.concentration)}"


@dataclass(frozen=True, slots=True)
class Hot:
    """`num_hot` experts receive `share_fraction` of the rows."""

    num_hot: int
    share_fraction: float

    def __str__(self) -> str:
        return f"hot:{self.num_hot}@{_shortest(self.share_fraction)}"


@dataclass(frozen=True, slots=True)
class Replay:
    """Consecutive tokens of a recording of expert ids."""

    file: Path

    def __str__(self) -> str:
        return f"replay:{self.file}"


Ungrouped: TypeAlias = (
    Uniform | Balanced | Strided | Active | Zipf | PowerLaw | PackedPowerLaw | Dirichlet | Hot
)


@dataclass(frozen=True, slots=True)
class Grouped:
    """The experts of `meant`, put through a gate that allows a token few groups; see `grouped`."""

    meant: Ungrouped
    num_groups: int
    num_allowed: int

    def __str__(self) -> str:
        return f"{self.meant}/groups:{self.num_groups}@{self.num_allowed}"


Pattern: TypeAlias = Ungrouped | Grouped | Replay


def _shortest(number: float) -> str:
    """Write a number in the fewest digits that read back as the same float."""
    return repr(number).removesuffix(".0")
