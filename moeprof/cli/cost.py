"""The commands that fit a cost model and ask it: parse, call once, print."""

from __future__ import annotations

import os
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from moeprof.cli.options import JsonOption  # noqa: TC001 - typer reads the annotations


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
    base: Annotated[
        Path | None,
        typer.Option("--from", help="Adapt this model to the dataset's few points instead."),
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(help="The other methods judged beside it: all, fast or none."),
    ] = None,
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
        datasets,
        holdout=holdout,
        peers=peers,
        noise=noise,
        sources=source or (),
        seed=seed,
        base=base,
    )
    raise typer.Exit(show_fit_cost(request, out=out, suspects=suspects, as_json=json))


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
