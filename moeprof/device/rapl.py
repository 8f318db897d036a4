"""The energy of all CPU packages, as the Linux powercap (RAPL) counters give it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moeprof.units import joules_from_uj

POWERCAP = Path("/sys/class/powercap")
PERMISSION_REMEDY = "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"


@dataclass(slots=True)
class _Package:
    counter: Path
    max_microjoules: int
    last_microjoules: int
    total_microjoules: int = 0

    def advance(self) -> None:
        now = int(self.counter.read_text())
        # The counter falls back to 0 after its maximum, some minutes apart under full load.
        wrapped = self.max_microjoules + 1 if now < self.last_microjoules else 0
        self.total_microjoules += now - self.last_microjoules + wrapped
        self.last_microjoules = now


class RaplCounter:
    """Joules of all packages since it was opened; DRAM and `psys` domains are left out.

    It must be read more often than the counter wraps (2^32 microjoules or more: about a minute
    at 70 W on the smallest).
    """

    source = "rapl"

    def __init__(self, packages: list[_Package]) -> None:
        self._packages = packages

    def read(self) -> float | None:
        """Return joules since opening, or None where a package could not be read."""
        try:
            for package in self._packages:
                package.advance()
        except (OSError, ValueError):
            return None
        return joules_from_uj(sum(package.total_microjoules for package in self._packages))


def open_rapl(root: Path = POWERCAP) -> tuple[RaplCounter | None, str | None]:
    """Return the counter, or None and the reason with its remedy."""
    domains = sorted(root.glob("intel-rapl:*"))
    packages: list[_Package] = []
    try:
        for domain in domains:
            # Domains inside a package (core, dram) are named intel-rapl:N:M, the board's psys.
            if domain.name.count(":") == 1 and _text(domain, "name").startswith("package"):
                counter = domain / "energy_uj"
                maximum = int(_text(domain, "max_energy_range_uj"))
                packages.append(_Package(counter, maximum, int(counter.read_text())))
    except PermissionError:
        return None, f"RAPL is readable by root only; remedy: {PERMISSION_REMEDY}"
    except (OSError, ValueError) as error:
        return None, f"RAPL cannot be read: {error}"
    if not packages:
        return None, f"no RAPL package counter in {root} (usual in a virtual machine)"
    return RaplCounter(packages), None


def _text(domain: Path, name: str) -> str:
    return (domain / name).read_text().strip()
