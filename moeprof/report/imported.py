"""What the import and export commands show: what came in, what was refused, what went out."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from moeprof.dataset.exporters.aiconfigurator import export
from moeprof.dataset.importers import aiconfigurator, csv_table, package
from moeprof.dataset.importers.csv_map import load_map
from moeprof.dataset.importers.write import Provenance, sha256_of, write_points
from moeprof.dataset.importers.write_transfers import write_transfers
from moeprof.errors import ExitCode, UsageError
from moeprof.hardware.catalogue import gpu_of_device
from moeprof.report.consoles import console_on, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from moeprof.dataset.importers.write import Imported

_NUM_SHOWN = 8


def show_available(*, as_json: bool) -> ExitCode:
    """Print the MoE tables in the installed aiconfigurator-core."""
    tables = package.moe_tables(package.package_folder())
    version = package.package_version()
    if as_json:
        facts = [{**asdict(table), "path": str(table.path)} for table in tables]
        print_json({"package_version": version, "tables": facts})
        return ExitCode.DONE
    title = f"MoE tables of {package.DISTRIBUTION} {version}"
    shown = Table(title=title, title_justify="left", title_style="bold")
    for name in ("system", "engine", "version"):
        shown.add_column(name, no_wrap=True)
    shown.add_column("rows", justify="right")
    shown.add_column("power")
    for table in tables:
        power = "yes" if table.has_power else "no"
        shown.add_row(table.system, table.engine, table.version, f"{table.num_rows:,}", power)
    console_on(sys.stdout).print(shown)
    return ExitCode.DONE


def show_import_aiconfigurator(
    *,
    system: str | None,
    engine: str | None,
    version: str | None,
    file: Path | None,
    out: Path | None,
    as_json: bool,
) -> ExitCode:
    """Import the tables that are named, and print what came in."""
    if out is None:
        raise UsageError("--out must name the dataset's folder", hint="Give --out DIR, or --list.")
    if (file is None) == (system is None):
        raise UsageError(
            "one of --system and --file must be given",
            hint="moeprof import aiconfigurator --list shows the systems.",
        )
    if file is not None:
        imported = [_import_moe(file, out, file.name, {})]
        return _show(imported, out, transfers={}, as_json=as_json)
    folder = package.package_folder()
    tables = package.choose(
        package.moe_tables(folder), system=str(system), engine=engine, version=version
    )
    versions = {package.DISTRIBUTION: package.package_version()}
    imported = [
        _import_moe(table.path, out, _within(folder, table.path), versions) for table in tables
    ]
    transfers = {}
    for path in package.transfer_files(folder, str(system), {table.engine for table in tables}):
        name = _within(folder, path)
        provenance = _provenance(path, name, versions)
        transfers[name] = write_transfers(out, path, provenance)
    return _show(imported, out, transfers=transfers, as_json=as_json)


def show_import_csv(
    file: Path, *, layout: str, constants: Sequence[str], out: Path, as_json: bool
) -> ExitCode:
    """Import a CSV as a map says, and print what came in."""
    given = dict(_split(each) for each in constants)
    found = load_map(layout, given)
    points = csv_table.read_points(file, found)
    options = {"map": found.model_dump(mode="json")}
    provenance = Provenance("csv", file.name, sha256_of(file), options=options)
    imported = write_points(out, points, provenance)
    return _show([imported], out, transfers={}, as_json=as_json)


def show_export_aiconfigurator(dataset: Path, *, out: Path, as_json: bool) -> ExitCode:
    """Export a dataset as a moe_perf table, and print what could not be said in it."""
    exported = export(dataset, out)
    if as_json:
        print_json(asdict(exported))
        return ExitCode.DONE
    console = console_on(sys.stdout)
    console.print(f"{exported.num_rows:,} rows written to {exported.file}", soft_wrap=True)
    for reason, count in exported.left_out.items():
        console.print(f"left out: {count:,} steps: {reason}", soft_wrap=True)
    if exported.lost_columns:
        lost = ", ".join(exported.lost_columns)
        console.print(f"moe_perf has no place for: {lost}", soft_wrap=True)
    return ExitCode.DONE


def _import_moe(path: Path, out: Path, name: str, versions: Mapping[str, str]) -> Imported:
    points = aiconfigurator.read_points(path)
    return write_points(out, points, _provenance(path, name, versions))


def _provenance(path: Path, name: str, versions: Mapping[str, str]) -> Provenance:
    licence = package.LICENCE if versions else None
    return Provenance("aiconfigurator", name, sha256_of(path), licence, dict(versions))


def _within(folder: Path, path: Path) -> str:
    return path.relative_to(folder.parent).as_posix()


def _split(constant: str) -> tuple[str, str]:
    name, equals, value = constant.partition("=")
    if not equals:
        raise UsageError(f"--set must be NAME=VALUE, got {constant!r}")
    return name.strip(), value.strip()


def _show(
    imported: Sequence[Imported], out: Path, *, transfers: Mapping[str, int], as_json: bool
) -> ExitCode:
    if as_json:
        runs = [asdict(each) for each in imported]
        print_json({"out": str(out), "imported": runs, "transfers": dict(transfers)})
        return ExitCode.DONE
    console = console_on(sys.stdout)
    for each in imported:
        _print_imported(console, each)
    for name, count in transfers.items():
        console.print(f"transfers: {count:,} rows of {name}", soft_wrap=True)
    return ExitCode.DONE


def _print_imported(console: Console, imported: Imported) -> None:
    table = Table(title=imported.file, title_justify="left", title_style="bold")
    table.add_column("")
    table.add_column("which", overflow="fold")
    table.add_column("rows", justify="right")
    table.add_row("rows", "", f"{imported.num_rows:,}")
    for title, counts in (
        ("device", imported.device_names),
        ("kernel", imported.kernels),
        ("weights", imported.weight_dtypes),
        ("routing", imported.routing_patterns),
        ("refused", imported.refusals),
    ):
        for number, (name, count) in enumerate(_shown(counts)):
            table.add_row("" if number else title, name, f"{count:,}")
    table.add_row("row counts", "reconstructed from the pattern", f"{imported.num_reconstructed:,}")
    table.add_row("energy", "average power x latency", f"{imported.num_with_energy:,}")
    console.print(table)
    for name in imported.device_names:
        if gpu_of_device(name) is None:
            console.print(f"no specification is known of {name}: data/gpus has none of that name")
    there = "was there already, and is left as it is" if imported.was_there else "written"
    console.print(f"run {imported.run_id}: {there}")


def _shown(counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    first = list(counts.items())[:_NUM_SHOWN]
    yield from first
    if rest := list(counts.items())[_NUM_SHOWN:]:
        yield f"and {len(rest)} more", sum(count for _, count in rest)
