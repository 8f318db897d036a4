"""The command line: parse, call once, print."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from moeprof import __version__
from moeprof.errors import MoeprofError

app = typer.Typer(
    name="moeprof",
    help="What a Mixture-of-Experts decode step costs on your GPUs: seconds and joules.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich help would double the time to the first line
)

import_app = typer.Typer(
    help="Bring in a dataset that somebody else measured.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
export_app = typer.Typer(
    help="Write a dataset in the schema of another project.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(import_app, name="import")
app.add_typer(export_app, name="export")

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"moeprof {__version__}")
        raise typer.Exit


@app.callback()
def _moeprof(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Measure, fit and judge Mixture-of-Experts decode."""


@app.command()
def doctor(json: JsonOption = False) -> None:
    """List what can be measured on this machine, and what to mend."""
    from moeprof.report.commands import show_doctor

    raise typer.Exit(show_doctor(as_json=json))


@app.command()
def sweep(  # noqa: PLR0913, PLR0917 - an argument for every option
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped one.")],
    out: Annotated[Path, typer.Option(help="The dataset's folder; an existing one is resumed.")],
    device: Annotated[str, typer.Option(help="auto, cuda:N, cpu, or sim:GPU.")] = "auto",
    seed: Annotated[int | None, typer.Option(help="Replaces the recipe's seed.", min=0)] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count and list what would be measured.")
    ] = False,
    adaptive: Annotated[
        bool, typer.Option("--adaptive", help="Only points that --model is unsure of.")
    ] = False,
    model: Annotated[
        Path | None, typer.Option(help="With --adaptive: a model file of fit-cost.")
    ] = None,
    error: Annotated[
        float,
        typer.Option(
            help="With --adaptive: stop at this half-width of the 90 % intervals (median).",
            min=1e-4,
            max=1.0,
        ),
    ] = 0.02,
    json: JsonOption = False,
) -> None:
    """Warm up, hold, time and record every point of a recipe; resumes by itself."""
    from moeprof.report.adaptive import adaptive_of
    from moeprof.report.commands import show_plan, show_sweep

    asked = adaptive_of(model, error, adaptive=adaptive)
    if dry_run:
        raise typer.Exit(show_plan(recipe, seed=seed, as_json=json))
    raise typer.Exit(
        show_sweep(recipe, out=out, selector=device, seed=seed, adaptive=asked, as_json=json)
    )


@app.command()
def report(
    path: Annotated[Path, typer.Argument(help="A dataset's folder.")],
    every_row: Annotated[
        bool, typer.Option("--all", help="Print every row, however many.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Print the table of what a dataset holds."""
    from moeprof.report.commands import show_dataset

    raise typer.Exit(show_dataset(path, every_row=every_row, as_json=json))


@app.command()
def selfcheck(
    device: Annotated[
        str, typer.Option(help="sim:GPU draws simulated GPUs; cuda:N or cpu is audited itself.")
    ] = "sim:h200-sxm",
    seed: Annotated[int, typer.Option(help="Decides every draw.", min=0)] = 0,
    runs: Annotated[
        int | None, typer.Option(help="At most so many trials of every check.", min=1)
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Only this check or figure; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write the findings and a picture to this folder.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(help="A recorded CSV of time and power or energy, instead.")
    ] = None,
    load: Annotated[
        Path | None, typer.Option(help="A CSV of when the load of --replay started and ended.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Audit the method: what is promised of a measurement, and what is achieved."""
    from moeprof.report.audit import show_audit
    from moeprof.report.replayed import show_replay

    if replay is not None or load is not None:
        raise typer.Exit(show_replay(replay, load, as_json=json))
    raise typer.Exit(
        show_audit(device, seed=seed, num_trials_max=runs, only=only or (), out=out, as_json=json)
    )


@app.command("fit-cost")
def fit_cost(  # noqa: PLR0913, PLR0917 - options of a command
    datasets: Annotated[list[Path], typer.Argument(help="One or more datasets' folders.")],
    out: Annotated[Path, typer.Option(help="The model file to write.")],
    holdout: Annotated[
        str | None,
        typer.Option(
            help="What is held out to judge: random, tokens, shape, beyond, gpu or none; "
            "else the hardest that the rows allow."
        ),
    ] = None,
    peers: Annotated[
        str, typer.Option(help="The other methods judged beside it: all, fast or none.")
    ] = "all",
    noise: Annotated[
        str | None,
        typer.Option(help="Levels of added noise to judge the fit under, as 0,0.01,0.05,0.1."),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(help="measured, simulated or imported rows only; may be repeated."),
    ] = None,
    suspects: Annotated[Path | None, typer.Option(help="A CSV file for all rows in doubt.")] = None,
    seed: Annotated[int, typer.Option(help="Decides every draw.", min=0)] = 0,
    json: JsonOption = False,
) -> None:
    """Fit a cost model to datasets, and judge it beside other methods on rows held out."""
    # The products of a fit are small: threads would wait for each other for most of the time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from moeprof.report.fitted import fit_request, show_fit_cost

    request = fit_request(
        datasets, holdout=holdout, peers=peers, noise=noise, sources=source or (), seed=seed
    )
    raise typer.Exit(show_fit_cost(request, out=out, suspects=suspects, as_json=json))


@app.command()
def predict(  # noqa: PLR0913, PLR0917 - all that a point is made of
    model: Annotated[Path, typer.Argument(help="A model that fit-cost wrote.")],
    points: Annotated[
        Path | None,
        typer.Option(help="Points as .parquet or .csv with a dataset's columns, or a dataset."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The .parquet or .csv to write; else a table is printed.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Instead of points: a model in the catalogue, or its file.")
    ] = None,
    tokens: Annotated[
        str, typer.Option(help="Batch sizes of --layer: 1..256, or 1,2,4.")
    ] = "1,2,4,8,16,32,64,128,256",
    pattern: Annotated[str, typer.Option(help="Routing pattern of --layer.")] = "uniform",
    celsius: Annotated[
        float | None, typer.Option(help="Die temperature of --layer; else not known.")
    ] = None,
    kernel: Annotated[
        str | None, typer.Option(help="Kernel of --layer; else the most measured.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="GPU of --layer; else the most measured.")] = None,
    weight_dtype: Annotated[
        str | None, typer.Option(help="Format of --layer's weights; else as published.")
    ] = None,
    ep: Annotated[int, typer.Option(help="Expert-parallel ranks of --layer.", min=1)] = 1,
    tp: Annotated[int, typer.Option(help="Ranks that share each expert.", min=1)] = 1,
    json: JsonOption = False,
) -> None:
    """Predict seconds and joules of points, or of a layer over batch sizes."""
    from moeprof.cost.layer_points import LayerRequest
    from moeprof.report.predicted import show_layer, show_points

    if layer is None:
        raise typer.Exit(show_points(model, points, out=out, as_json=json))
    asked = LayerRequest(layer, tokens, pattern, celsius, kernel, gpu, weight_dtype, ep, tp)
    raise typer.Exit(show_layer(model, asked, points=points, out=out, as_json=json))


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


@export_app.command("aiconfigurator")
def export_aiconfigurator(
    dataset: Annotated[Path, typer.Argument(help="A dataset's folder.")],
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    json: JsonOption = False,
) -> None:
    """Write measured points as a moe_perf table, for users of aiconfigurator."""
    from moeprof.report.imported import show_export_aiconfigurator

    raise typer.Exit(show_export_aiconfigurator(dataset, out=out, as_json=json))


def main() -> None:
    """Run the command line; a user's mistake becomes one message and its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without µ or ° shows a ?
    try:
        app()
    except MoeprofError as error:
        sys.stderr.write(f"error: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"hint: {error.hint}\n")
        sys.exit(int(error.exit_code))
