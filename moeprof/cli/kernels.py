"""The commands about expert kernels: parse, call once, print."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from moeprof.cli.options import JsonOption  # noqa: TC001 - typer reads the annotations

kernels_app = typer.Typer(
    help="Expert kernels: which run here, whether they are right, and how fast they are.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Names = Annotated[list[str] | None, typer.Argument(help="Kernels by name; none: all.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cuda:N, cpu or sim:GPU.")]
DtypeOption = Annotated[
    list[str] | None,
    typer.Option("--dtype", help="bf16, fp16, fp32 or fp8_block; may be repeated."),
]
ModelOption = Annotated[
    list[str] | None,
    typer.Option("--model", help="A model in the catalogue, or its file; may be repeated."),
]
TokensOption = Annotated[
    str | None, typer.Option("--tokens", help="Batch sizes: 1..16, or 1,2,4; else as fits.")
]
PatternOption = Annotated[str, typer.Option(help="Routing pattern, as in a recipe.")]
SeedOption = Annotated[int, typer.Option(help="Decides every draw.", min=0)]
RoundsOption = Annotated[
    int, typer.Option(help="Samples of each kernel at a point, in turn with the others.", min=5)
]
L2Option = Annotated[str, typer.Option("--l2", help="cold or warm: what a launch finds in it.")]
SecondsOption = Annotated[
    float | None,
    typer.Option("--seconds", help="Leave out points that are not reached in this time.", min=1.0),
]


@kernels_app.command("list")
def list_(
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """List every kernel: the dtypes it runs on this device, or why it does not."""
    from moeprof.report.kernels_list import show_list

    raise typer.Exit(show_list(device, as_json=json))


@kernels_app.command()
def check(
    names: Names = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    seed: SeedOption = 0,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="More routings, and layers of the catalogue.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Compare kernels with float64 over many routings; exit 10 where one is wrong."""
    from moeprof.report.kernels_check import CheckRequest, show_check

    request = CheckRequest(tuple(names or ()), tuple(dtype or ()), device, seed, thorough)
    raise typer.Exit(show_check(request, as_json=json))


@kernels_app.command()
def inspect(
    names: Annotated[
        list[str] | None, typer.Argument(help="Variants, or patterns as 'stream-*'; none: all.")
    ] = None,
    arch: Annotated[
        list[str] | None, typer.Option(help="sm_80, sm_90a, ...; may be repeated; else all.")
    ] = None,
    sass: Annotated[
        bool, typer.Option("--sass", help="Print the disassembly instead of the table.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 10 where a committed ceiling is exceeded.")
    ] = False,
    write_ceilings: Annotated[
        Path | None, typer.Option(help="Write what was found as ceilings to this file.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compile moeprof's CUDA kernels for any architecture and say what came of it; needs no GPU."""
    from moeprof.report.kernels_inspect import show_inspect

    raise typer.Exit(
        show_inspect(
            names or (),
            arch or (),
            sass=sass,
            ceilings=check,
            write_ceilings=write_ceilings,
            as_json=json,
        )
    )


@kernels_app.command()
def bench(  # noqa: PLR0913, PLR0917 - an argument for every option
    names: Names = None,
    model: ModelOption = None,
    tokens: TokensOption = None,
    dtype: DtypeOption = None,
    device: DeviceOption = "auto",
    pattern: PatternOption = "uniform",
    seed: SeedOption = 0,
    rounds: RoundsOption = 30,
    l2: L2Option = "cold",
    seconds: SecondsOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write tables and a picture to this folder.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Time kernels side by side, beside the bandwidth that this session's memory reaches."""
    from moeprof.report.kernels_bench import show_bench
    from moeprof.report.kernels_request import bench_request

    request = bench_request(
        model or (),
        tokens=tokens,
        dtypes=dtype or (),
        kernels=names or (),
        device=device,
        pattern=pattern,
        seed=seed,
        rounds=rounds,
        l2=l2,
        seconds=seconds,
    )
    raise typer.Exit(show_bench(request, out=out, as_json=json))


@kernels_app.command()
def tune(  # noqa: PLR0913, PLR0917 - an argument for every option
    names: Annotated[
        list[str] | None, typer.Argument(help="Variants of moeprof's kernels; none: all.")
    ] = None,
    model: ModelOption = None,
    tokens: TokensOption = None,
    dtype: DtypeOption = None,
    device: DeviceOption = "auto",
    pattern: PatternOption = "uniform",
    seed: SeedOption = 0,
    rounds: RoundsOption = 12,
    seconds: SecondsOption = None,
    out: Annotated[
        Path | None, typer.Option(help="The table to write; else that of this user.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Time every variant of moeprof's CUDA kernels, and keep the fastest of each point."""
    from moeprof.report.kernels_request import bench_request
    from moeprof.report.kernels_tune import show_tune

    request = bench_request(
        model or (),
        tokens=tokens,
        dtypes=dtype or (),
        kernels=names or (),
        device=device,
        pattern=pattern,
        seed=seed,
        rounds=rounds,
        seconds=seconds,
    )
    raise typer.Exit(show_tune(request, out=out, as_json=json))
