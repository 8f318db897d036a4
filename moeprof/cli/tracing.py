"""The commands that record and bring in routing traces: parse, call once, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moeprof.cli.options import JsonOption  # noqa: TC001 - typer reads the annotations

OutOption = Annotated[Path, typer.Option(help="The Parquet file to write.")]
TopKOption = Annotated[
    int | None, typer.Option(help="Experts per token, where the file does not tell.", min=1)
]


def trace(  # noqa: PLR0913, PLR0917 - options of a command
    model: Annotated[Path, typer.Argument(help="A folder with a Transformers MoE.")],
    text: Annotated[
        list[Path], typer.Option(help="A text to run the model over; may be repeated.")
    ],
    out: OutOption,
    top_only: Annotated[
        bool, typer.Option("--top-only", help="Leave the logits out: for models of many experts.")
    ] = False,
    tokens_max: Annotated[
        int | None, typer.Option(help="Stop after so many tokens.", min=1)
    ] = None,
    window: Annotated[int, typer.Option(help="Tokens of a request, at most.", min=1)] = 512,
    batch: Annotated[int, typer.Option(help="Requests that run at once.", min=1)] = 8,
    device: Annotated[str, typer.Option(help="auto, cuda:N or cpu.")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="What the weights are loaded as: fp32, bf16 or stored.")
    ] = "fp32",
    json: JsonOption = False,
) -> None:
    """Record which experts a real model chooses for every token of a text."""
    from moeprof.report.traced_model import show_trace
    from moeprof.trace.record import RecordSettings

    settings = RecordSettings(window, batch, tokens_max, top_only)
    raise typer.Exit(
        show_trace(model, text, out, settings, device=device, dtype=dtype, as_json=json)
    )


def import_sglang(
    file: Annotated[Path, typer.Argument(help="A .pt file of the recorder.")],
    out: OutOption,
    num_experts: Annotated[
        int | None, typer.Option(help="Experts of a layer, where the file has no map.", min=1)
    ] = None,
    top_k: TopKOption = None,
    json: JsonOption = False,
) -> None:
    """Import a recording of SGLang's expert-distribution recorder as a trace."""
    from moeprof.report.traced import show_import

    raise typer.Exit(
        show_import("sglang", file, out, num_experts=num_experts, top_k=top_k, as_json=json)
    )


def import_vllm(
    file: Annotated[Path, typer.Argument(help="routed_experts as .npy, .npz or .jsonl.")],
    out: OutOption,
    num_experts: Annotated[
        int | None, typer.Option(help="Experts of a layer, which the files do not tell.", min=1)
    ] = None,
    top_k: TopKOption = None,
    json: JsonOption = False,
) -> None:
    """Import the routed experts that vLLM returns as a trace."""
    from moeprof.report.traced import show_import

    raise typer.Exit(
        show_import("vllm", file, out, num_experts=num_experts, top_k=top_k, as_json=json)
    )
