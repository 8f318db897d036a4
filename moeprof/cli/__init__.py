"""The command line: parse, call once, print."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from moeprof import __version__
from moeprof.cli.cost import fit_cost, predict
from moeprof.cli.exchange import export_app, import_app
from moeprof.cli.kernels import kernels_app
from moeprof.cli.options import JsonOption  # noqa: TC001 - typer reads the annotations
from moeprof.cli.routing import route_eval
from moeprof.cli.tracing import trace
from moeprof.cli.training import train
from moeprof.errors import MoeprofError

app = typer.Typer(
    name="moeprof",
    help="What a Mixture-of-Experts decode step costs on your GPUs: seconds and joules.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich help would double the time to the first line
)


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


app.command("fit-cost")(fit_cost)
app.command()(predict)
app.command("route-eval")(route_eval)
app.command()(train)
app.command()(trace)
app.add_typer(kernels_app, name="kernels")
app.add_typer(import_app, name="import")
app.add_typer(export_app, name="export")


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
