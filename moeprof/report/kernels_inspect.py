"""What `moeprof kernels inspect` shows: how the CUDA kernels compile, for any architecture."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from moeprof.errors import ExitCode, InputError, UsageError
from moeprof.kernel.cuda.cache import build
from moeprof.kernel.cuda.ceilings import ceilings_path, ceilings_text, read_ceilings
from moeprof.kernel.cuda.inspection import ceilings_from, complaints_of, inspect_all
from moeprof.kernel.cuda.sass import disassembly, mix
from moeprof.kernel.cuda.variants import ARCHITECTURES, all_variants
from moeprof.report.consoles import console_on, print_json
from moeprof.report.human import ABSENT
from moeprof.report.routes_progress import routes_progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from moeprof.kernel.cuda.inspection import Inspected, Target
    from moeprof.kernel.cuda.variants import Variant

Judged = tuple["Inspected", tuple[str, ...]]  # a kernel and everything that is wrong with it


def show_inspect(
    names: Sequence[str],
    architectures: Sequence[str],
    *,
    sass: bool,
    ceilings: bool,
    write_ceilings: Path | None,
    as_json: bool,
) -> ExitCode:
    """Compile kernels and print what came of them; no GPU is needed.

    No names mean all kernels, no architectures all of them; a name may be a pattern as `stream-*`.
    `sass` prints listings instead. `ceilings` also compares with the committed ceilings, and then
    GATE_FAILED is returned where anything is wrong. `write_ceilings` is a file to write anew.

    Raises:
        UsageError: a name or an architecture is not known, or options that exclude each other.
        InputError: the ceilings cannot be read or written.
        KernelUnsupported: cuda-core is missing, or a source does not compile.
        ExtraMissing: `sass` without nvdisasm.

    """
    if write_ceilings is not None and (names or architectures):
        raise UsageError(
            "--write-ceilings writes those of all kernels for all architectures",
            hint="Leave out the names and --arch.",
        )
    targets = chosen_targets(names, architectures)
    if sass and as_json:
        raise UsageError("--sass prints listings and --json a document: choose one of them")
    if sass:
        _print_listings(targets)
        return ExitCode.DONE
    # Before minutes of compiling: a file that cannot be read or written says so at once.
    committed = read_ceilings(ceilings_path()) if ceilings else None
    if write_ceilings is not None:
        _check_folder(write_ceilings)
    with routes_progress(console_on(sys.stderr)) as on_progress:
        found = inspect_all(
            targets, num_workers=min(_num_cores(), len(targets)), on_progress=on_progress
        )
    if write_ceilings is not None:
        written = ceilings_from(found)
        write_ceilings.write_text(ceilings_text(written), encoding="utf-8")
        committed = written if ceilings else None
    judged = [
        (each, each.complaints if committed is None else complaints_of(each, committed))
        for each in found
    ]
    if as_json:
        print_json(inspection_document(judged))
    else:
        _print_tables(judged)
    failed = ceilings and any(complaints for _, complaints in judged)
    return ExitCode.GATE_FAILED if failed else ExitCode.DONE


def chosen_targets(names: Sequence[str], architectures: Sequence[str]) -> tuple[Target, ...]:
    """Return the variants that names or patterns mean, for each architecture. Raises UsageError."""
    for architecture in architectures:
        if architecture not in ARCHITECTURES:
            near = get_close_matches(architecture.lower(), ARCHITECTURES, n=1, cutoff=0.5)
            guess = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(
                f"architecture {architecture!r} is not one of {', '.join(ARCHITECTURES)}{guess}"
            )
    available = [
        (variant, architecture)
        for architecture in (architectures or ARCHITECTURES)
        for variant in all_variants(architecture)
    ]
    for name in names:
        if not any(_is_meant(variant, name) for variant, _ in available):
            known = list(dict.fromkeys(variant.name for variant, _ in available))
            near = get_close_matches(name, known)
            guess = f"; did you mean {' or '.join(near)}?" if near else ""
            where = f" for {', '.join(architectures)}" if architectures else ""
            raise UsageError(
                f"no kernel {name!r} is built{where}{guess}",
                hint="`moeprof kernels inspect` has them all; stream, wgmma and mla mean families.",
            )
    return tuple(
        (variant, architecture)
        for variant, architecture in available
        if not names or any(_is_meant(variant, name) for name in names)
    )


def _is_meant(variant: Variant, name: str) -> bool:
    """Return whether a name is the variant's, its family's, or a pattern of it."""
    return fnmatchcase(variant.name, name) or variant.name.startswith(f"{name}-")


def inspection_document(judged: Sequence[Judged]) -> dict[str, Any]:
    """Return everything as plain values."""
    return {
        "kernels": [
            {
                "name": each.variant.name,
                "source": each.variant.source,
                "architecture": each.architecture,
                "compiler": each.compiler,
                **asdict(each.usage),
                "shared_bytes": each.shared_bytes,
                "num_threads": each.variant.num_threads,
                "blocks_per_multiprocessor": each.blocks_per_multiprocessor,
                "instructions": None if each.instructions is None else mix(each.instructions),
                "complaints": list(complaints),
            }
            for each, complaints in judged
        ]
    }


def inspection_tables(judged: Sequence[Judged]) -> Iterator[Table]:
    """Yield a table for each architecture, a row for each variant."""
    for architecture in dict.fromkeys(each.architecture for each, _ in judged):
        of_it = [row for row in judged if row[0].architecture == architecture]
        yield _table(f"{architecture}  ·  NVRTC {of_it[0][0].compiler}", of_it)


def _table(title: str, judged: Sequence[Judged]) -> Table:
    mixes = [mix(each.instructions) if each.instructions else {} for each, _ in judged]
    # Most kernels use a few kinds of instruction; a column of zeros says nothing.
    kinds = [
        kind
        for kind in dict.fromkeys(kind for counts in mixes for kind in counts)
        if any(counts.get(kind) for counts in mixes)
    ]
    table = Table(title=title, title_justify="left", title_style="bold", expand=False)
    table.add_column("kernel", no_wrap=True)
    for heading in ("registers", "stack", "spills", "shared", "blocks/SM", *kinds):
        table.add_column(heading, justify="right", no_wrap=True)
    for (each, _), counts in zip(judged, mixes, strict=True):
        usage = each.usage
        table.add_row(
            each.variant.name,
            str(usage.registers),
            str(usage.stack_bytes),
            str(usage.spill_store_bytes + usage.spill_load_bytes),
            f"{each.shared_bytes / 1024:.1f} KiB",
            str(each.blocks_per_multiprocessor),
            *(str(counts[kind]) if counts else ABSENT for kind in kinds),
        )
    return table


def _print_tables(judged: Sequence[Judged]) -> None:
    console = console_on(sys.stdout)
    for table in inspection_tables(judged):
        console.print(table)
    for each, complaints in judged:
        if complaints:
            line = f"{each.variant.name} {each.architecture}: {'; '.join(complaints)}"
            console.print(Text(line, "red"), soft_wrap=True)
    wrong = sum(bool(complaints) for _, complaints in judged)
    console.print(f"{len(judged)} kernels compiled, {wrong} with something wrong")


def _print_listings(targets: Sequence[Target]) -> None:
    for variant, architecture in targets:
        listing = disassembly(build(variant, architecture))
        sys.stdout.write(f"// {variant.name} {architecture}\n{listing}\n")


def _check_folder(path: Path) -> None:
    if not os.access(path.parent, os.W_OK):
        raise InputError(
            f"{path}: {path.parent} is not a folder that can be written to",
            hint="From a checkout: --write-ceilings kernels/ceilings.toml",
        )


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
