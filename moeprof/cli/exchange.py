"""The commands that bring datasets in and give them out: parse, call once, print."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from moeprof.cli.options import JsonOption  # noqa: TC001 - typer reads the annotations
from moeprof.cli.tracing import import_sglang, import_vllm

import_app = typer.Typer(
    help="Bring in a dataset that somebody else measured, or a trace that an engine recorded.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
export_app = typer.Typer(
    help="Write a dataset in the schema of another project.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@import_app.command("aiconfigurator")
def import_aiconfigurator(
    system: Annotated[str | None, typer.Option(help="The GPU, such as h200_sxm.")] = None,
    engine: Annotated[str | None, typer.Option(help="vllm, sglang or trtllm; else all.")] = None,
    version: Annotated[str | None, typer.Option(help="The engine's version; else all.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="One moe_perf.parquet, instead of the installed ones.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The dataset's folder.")] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Only list the tables that are installed.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Import measured MoE and all-to-all tables of NVIDIA's aiconfigurator-core."""
    from moeprof.report.imported import show_available, show_import_aiconfigurator

    if list_:
        raise typer.Exit(show_available(as_json=json))
    raise typer.Exit(
        show_import_aiconfigurator(
            system=system, engine=engine, version=version, file=file, out=out, as_json=json
        )
    )


@import_app.command("csv")
def import_csv(
    file: Annotated[Path, typer.Argument(help="A CSV with a header.")],
    map_: Annotated[
        str, typer.Option("--map", help="A TOML map of its columns, or a shipped map's name.")
    ],
    out: Annotated[Path, typer.Option(help="The dataset's folder.")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE, for every row; may be repeated."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Import anybody's table, as a map of its columns says."""
    from moeprof.report.imported import show_import_csv

    raise typer.Exit(
        show_import_csv(file, layout=map_, constants=set_ or (), out=out, as_json=json)
    )


import_app.command("sglang")(import_sglang)
import_app.command("vllm")(import_vllm)


@export_app.command("aiconfigurator")
def export_aiconfigurator(
    dataset: Annotated[Path, typer.Argument(help="A dataset's folder.")],
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    json: JsonOption = False,
) -> None:
    """Write measured points as a moe_perf table, for users of aiconfigurator."""
    from moeprof.report.imported import show_export_aiconfigurator

    raise typer.Exit(show_export_aiconfigurator(dataset, out=out, as_json=json))
