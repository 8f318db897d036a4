from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from moeprof.errors import CheckpointError
from moeprof.huggingface.extra import quiet
from moeprof.huggingface.manifest import Manifest, write_manifest
from moeprof.training.upcycle_dense import copy_tokenizer, load_dense

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = "model.safetensors"


def dense_folder(folder: Path, **others: Any) -> Path:
    sizes: dict[str, Any] = {
        "vocab_size": 256, "n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2,
        "bos_token_id": None, "eos_token_id": None,
    }  # fmt: skip
    with quiet():
        GPT2LMHeadModel(GPT2Config(**(sizes | others))).save_pretrained(folder)
    return folder


def give_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, "?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


def test_a_saved_gpt2_is_loaded_with_its_weights_and_name(tmp_path: Path) -> None:
    folder = dense_folder(tmp_path / "tiny-gpt2")
    dense = load_dense(folder)
    name = "transformer.h.1.mlp.c_fc.weight"

    assert dense.name == "tiny-gpt2"
    assert not dense.model.training
    assert torch.equal(dense.model.state_dict()[name], load_file(folder / WEIGHTS)[name])


def test_without_a_tokenizer_tokens_are_bytes(tmp_path: Path) -> None:
    dense = load_dense(dense_folder(tmp_path))

    assert dense.tokens == "bytes"
    assert dense.encode("ab") == [97, 98]
    assert dense.tokenizer_files == ()


def test_a_tokenizer_in_the_folder_is_used_and_copied(tmp_path: Path) -> None:
    folder = dense_folder(tmp_path / "dense", vocab_size=3)
    give_tokenizer(folder)
    dense = load_dense(folder)
    out = tmp_path / "out"
    out.mkdir()
    copy_tokenizer(dense, out)

    assert dense.tokens == "tokenizer"
    assert dense.encode("b a ?") == [1, 0, 2]
    copied = sorted(path.name for path in out.iterdir())
    assert copied == sorted(path.name for path in dense.tokenizer_files)
    assert {"tokenizer.json", "tokenizer_config.json"} <= set(copied)
    assert (out / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("vocab_size", [255, 5000])
def test_a_vocabulary_that_is_not_of_bytes_needs_a_tokenizer(
    tmp_path: Path, vocab_size: int
) -> None:
    dense_folder(tmp_path, vocab_size=vocab_size)

    with pytest.raises(CheckpointError, match=f"no tokenizer, and {vocab_size} tokens are no"):
        load_dense(tmp_path)


def test_loading_draws_none_of_the_callers_random_numbers(tmp_path: Path) -> None:
    dense_folder(tmp_path)
    torch.manual_seed(5)
    load_dense(tmp_path)
    drawn = torch.rand(1)
    torch.manual_seed(5)

    assert torch.equal(drawn, torch.rand(1))


def test_loading_says_nothing_on_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dense_folder(tmp_path)
    capfd.readouterr()
    load_dense(tmp_path)

    assert capfd.readouterr() == ("", "")


def test_a_missing_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="must be a folder with a model, found nothing"):
        load_dense(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="must be a folder with a model, found a file"):
        load_dense(tmp_path / "file")


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        load_dense(tmp_path)


def test_another_family_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mixtral"}', encoding="utf-8")

    with pytest.raises(CheckpointError, match="model_type must be gpt2, got 'mixtral'"):
        load_dense(tmp_path)


def test_a_model_that_is_upcycled_already_is_refused(tmp_path: Path) -> None:
    dense_folder(tmp_path)
    write_manifest(tmp_path, Manifest(tokens="bytes", upcycled={"layers": "all"}))

    with pytest.raises(CheckpointError, match="is upcycled already"):
        load_dense(tmp_path)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    dense_folder(tmp_path)
    (tmp_path / WEIGHTS).unlink()

    with pytest.raises(CheckpointError, match="has no weights"):
        load_dense(tmp_path)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    path = dense_folder(tmp_path) / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1000])

    with pytest.raises(CheckpointError, match="is damaged"):
        load_dense(tmp_path)


def test_a_model_of_more_layers_than_its_config_says_is_refused(tmp_path: Path) -> None:
    path = dense_folder(tmp_path) / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"n_layer": 1}), encoding="utf-8")

    with pytest.raises(
        CheckpointError, match=r"tensors .* does not use, the first is transformer\.h\.1\."
    ):
        load_dense(tmp_path)


def test_constants_that_old_checkpoints_hold_are_no_weights(tmp_path: Path) -> None:
    path = dense_folder(tmp_path) / WEIGHTS
    held = {"transformer.h.0.attn.bias": torch.ones(1, 1, 64, 64).tril()}
    held["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(load_file(path) | held, path, metadata={"format": "pt"})

    assert load_dense(tmp_path).num_vocabulary == 256


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    path = dense_folder(tmp_path) / WEIGHTS
    tensors = load_file(path)
    del tensors["transformer.h.1.mlp.c_proj.weight"]
    save_file(tensors, path, metadata={"format": "pt"})

    with pytest.raises(CheckpointError, match=r"lack 1 tensors.*h\.1\.mlp\.c_proj\.weight"):
        load_dense(tmp_path)


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    path = dense_folder(tmp_path) / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"n_inner": 40}), encoding="utf-8")

    with pytest.raises(CheckpointError, match=r"must be .*40.* as config\.json says"):
        load_dense(tmp_path)


def test_an_impossible_config_is_refused(tmp_path: Path) -> None:
    path = dense_folder(tmp_path) / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"n_head": 3}), encoding="utf-8")

    with pytest.raises(CheckpointError, match="Transformers cannot load it"):
        load_dense(tmp_path)
