"""Loads a local folder through Transformers, refusing what that would load in part or fetch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from moeprof.errors import CheckpointError
from moeprof.huggingface.extra import transformers
from moeprof.huggingface.manifest import read_json
from moeprof.huggingface.text import TokenizerEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import torch

_ATTENTION: Final = ("attn_implementation", "_attn_implementation")
_MASKED_BIAS: Final = ".attn.masked_bias"  # a constant that old GPT-2 checkpoints store
_OF_ANOTHER: Final = (
    "The weights are of another model than config.json: copy the folder again, whole."
)


def read_config(folder: Path) -> dict[str, Any]:
    """Return a model folder's config.json.

    Raises CheckpointError: there is no folder, no config.json, it cannot be read, or it asks for
    attention code from the network.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise CheckpointError(
            f"{folder}: must be a folder with a model, found {found}",
            hint="Give a local folder; models are not downloaded.",
        )
    path = folder / "config.json"
    if not path.exists():
        raise CheckpointError(
            f"{folder}: has no config.json",
            hint="Give the folder that moeprof train, or save_pretrained, wrote.",
        )
    config = read_json(path)
    for key in _ATTENTION:
        # Transformers takes a name with a slash for a kernel on the Hub: it fetches and runs it.
        if "/" in str(config.get(key)):
            raise CheckpointError(
                f"{path}: {key} must not name code on the network, got {config[key]!r:.60}",
                hint=f"Take {key} out of config.json.",
            )
    return config


def from_pretrained(auto_class: str, folder: Path, dtype: torch.dtype | None) -> Any:
    """Return the model in a folder, all of its weights read and all of them used.

    `auto_class` is the class of Transformers that loads it; with `dtype` None the weights take the
    type that config.json names. Raises CheckpointError: the folder is damaged, or its weights are
    of another model than its config.json.
    """
    model, info = vendor(
        folder,
        lambda: getattr(transformers(), auto_class).from_pretrained(
            folder,
            dtype=dtype or "auto",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        ),
    )
    for name, found, expected in sorted(info["mismatched_keys"]):
        raise CheckpointError(
            f"{folder}: {name} must be {list(expected)} as config.json says, got {list(found)}",
            hint=_OF_ANOTHER,
        )
    if missing := sorted(info["missing_keys"]):
        raise CheckpointError(
            f"{folder}: the weights lack {len(missing)} tensors of a {type(model).__name__}, the "
            f"first is {missing[0]}",
            hint=_OF_ANOTHER,
        )
    if unused := _unused(model.config, info["unexpected_keys"]):
        raise CheckpointError(
            f"{folder}: the weights have {len(unused)} tensors that a {type(model).__name__} of "
            f"this config.json does not use, the first is {unused[0]}",
            hint=_OF_ANOTHER,
        )
    return model


def load_tokenizer(folder: Path, num_vocabulary: int) -> TokenizerEncoder:
    """Return the tokenizer in a folder, for a model that knows `num_vocabulary` tokens.

    Raises CheckpointError: it is damaged.
    """
    tokenizer = vendor(
        folder,
        lambda: transformers().AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        ),
    )
    return TokenizerEncoder(tokenizer, num_vocabulary)


def vendor(folder: Path, call: Callable[[], Any]) -> Any:
    """Return what a call of Transformers returns. Raises CheckpointError: the call failed."""
    try:
        return call()
    except Exception as error:  # what a damaged folder raises there is not documented
        raise CheckpointError(
            f"{folder}: Transformers cannot load it: {type(error).__name__}: {first_line(error)}",
            hint="Check the files named, or copy the folder again.",
        ) from error


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, empty where it says nothing."""
    return next(iter(str(error).strip().splitlines()), "")


def _unused(config: Any, names: Iterable[str]) -> list[str]:
    # Layers that predict further tokens (arXiv:2412.19437, 2.2) stand behind the others, and
    # Transformers has no class for them.
    first, more = config.num_hidden_layers, getattr(config, "num_nextn_predict_layers", None) or 0
    further = tuple(f"model.layers.{layer}." for layer in range(first, first + more))
    return sorted(
        name for name in names if not name.startswith(further) and not name.endswith(_MASKED_BIAS)
    )
