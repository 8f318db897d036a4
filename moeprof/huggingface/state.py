"""Puts the tensors of safetensors files into a model that is already built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moeprof.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from torch import Tensor, nn


def load_state(model: nn.Module, files: Sequence[Path], dtype: torch.dtype | None) -> None:
    """Give a model the tensors in `files`, as `dtype`, or where it is None, as the first of them.

    A tensor that the model shares between two names may stand under either.

    Raises CheckpointError: a tensor is missing, is not one of the model's, or is of another shape.
    """
    from safetensors.torch import load_file  # noqa: PLC0415 - comes with an extra

    found: dict[str, Tensor] = {}
    for path in files:
        found |= load_file(path)
    where = files[0].parent
    own: dict[str, Any] = model.state_dict(keep_vars=True)
    for name, value in found.items():
        if name not in own:
            raise CheckpointError(f"{where}: the model has no tensor {name}")
        if own[name].shape != value.shape:
            raise CheckpointError(
                f"{where}: {name} must be {list(own[name].shape)}, got {list(value.shape)}"
            )
    filled = {id(own[name]) for name in found}
    if missing := [name for name, value in own.items() if id(value) not in filled]:
        raise CheckpointError(
            f"{where}: the weights lack {len(missing)} tensors, the first is {missing[0]}"
        )
    model.to(dtype or next(iter(found.values())).dtype)
    model.load_state_dict(found, strict=False)
