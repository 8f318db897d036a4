"""The command that compares routers: parse, call once, print."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from moeprof.cli.options import JsonOption  # noqa: TC001 - typer reads the annotations


def route_eval(  # noqa: PLR0913, PLR0917 - options of a command
    model: Annotated[
        Path | None,
        typer.Argument(
            help="A model that fit-cost wrote; else the one that ships for each scene's GPU, "
            "or its datasheet."
        ),
    ] = None,
    scene: Annotated[
        list[str] | None,
        typer.Option(help="A scene's file, or the name of a shipped one; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write JSON, Parquet, Markdown and pictures here.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Replaces the scenes' number of seeds.", min=1)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Replaces the scenes' seed.", min=0)] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="Only this policy, beside the baseline; may be repeated."),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            help="A gates file: exit 10 where one fails, else 11 where one cannot be told; "
            "in GitHub Actions the job's page shows the summary."
        ),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="An earlier route-eval.json, for gates that are against it.")
    ] = None,
    sweep_lambda: Annotated[
        bool, typer.Option("--sweep-lambda", help="Also run the bundled router over many λ.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes to run in; else one for each core.", min=1)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be run.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Compare routers in scenes: latency, energy and quality, and gates for CI."""
    from moeprof.report.routes import show_route_eval
    from moeprof.report.routes_plan import show_route_plan
    from moeprof.report.routes_request import route_request

    request = route_request(
        model,
        scenes=scene or (),
        num_seeds=seeds,
        seed=seed,
        policies=policy or (),
        check=check,
        against=against,
        is_swept=sweep_lambda,
        num_workers=workers,
    )
    if dry_run:
        raise typer.Exit(show_route_plan(request, as_json=json))
    raise typer.Exit(show_route_eval(request, out=out, as_json=json))
