from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, tiny_model, tokens
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, Qwen3MoeConfig
from transformers import Qwen3MoeForCausalLM as Qwen3
from transformers.utils import logging

from moeprof.errors import CheckpointError, DeviceUnavailable, TextError
from moeprof.gate.site import find_gates
from moeprof.gate.steering import tune
from moeprof.huggingface.load import load_model
from moeprof.huggingface.manifest import Manifest, RouterSettings, write_manifest
from moeprof.huggingface.upcycled import build_upcycled
from moeprof.huggingface.weights import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def save_tokenizer(folder: Path, num_tokens: int = 64) -> None:
    vocabulary = {chr(32 + number): number for number in range(num_tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=chr(32)))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "tiny-mixtral"
    tiny_model("mixtral").save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / saved.name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as moeprof train writes it, without its moeprof.json."""
    config = Qwen3MoeConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        norm_topk_prob=True,
    )
    model = Qwen3(config)
    for site in find_gates(model):
        torch.nn.init.normal_(site.gate.weight)
    folder = tmp_path_factory.mktemp("trained") / "mini"
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_of_every_family_answers_as_it_did(family: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    ids = tokens(2, 30)

    loaded = load_model(tmp_path)

    assert loaded.family == family
    assert loaded.name == tmp_path.name
    assert loaded.tokens == "tokenizer"
    assert loaded.num_vocabulary == 64
    assert loaded.manifest is None
    assert not loaded.model.training
    assert torch.equal(loaded.model(ids).logits, model(ids).logits)


def test_a_model_in_several_files_is_read_whole(tmp_path: Path) -> None:
    model = tiny_model("olmoe")
    model.save_pretrained(tmp_path, max_shard_size="30KB")
    save_tokenizer(tmp_path)
    ids = tokens(1, 20)

    loaded = load_model(tmp_path)

    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert torch.equal(loaded.model(ids).logits, model(ids).logits)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("stored", torch.float32)],
)
def test_weights_are_turned_into_the_type_asked_for(
    saved: Path, dtype: Any, expected: torch.dtype
) -> None:
    model = load_model(saved, dtype=dtype).model

    assert {value.dtype for value in model.parameters()} == {expected}


def test_loading_writes_nothing_and_leaves_the_settings_of_transformers(
    saved: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())

    load_model(saved)

    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_a_tokenizer_encodes_text_and_bytes_alike(saved: Path) -> None:
    encode = load_model(saved).encode

    assert encode("!#!") == encode(b"!#!") == [1, 3, 1]
    with pytest.raises(TextError, match="must be UTF-8"):
        encode(b"\xff")
    with pytest.raises(TextError, match="must not be empty"):
        encode("")


def test_a_tokenizer_of_another_model_is_noticed_when_it_encodes(folder: Path) -> None:
    save_tokenizer(folder, num_tokens=90)

    encode = load_model(folder).encode

    assert encode("!") == [1]
    with pytest.raises(TextError, match=r"tokens must lie in 0..63, .* gave 88"):
        encode("!x")


def test_a_trained_folder_reads_bytes_and_tunes_its_gates(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "mini")
    bias = torch.linspace(-1, 1, 16).view(2, 8)
    router = RouterSettings(softmax_temperature=1.5, selection_bias=bias.tolist())
    hashes = {"model.safetensors": sha256_of(folder / "model.safetensors")}
    ids = torch.tensor([list(b"some text")])
    write_manifest(folder, Manifest(tokens="bytes"))
    plain = load_model(folder)
    write_manifest(folder, Manifest(tokens="bytes", name="m", router=router, sha256=hashes))

    loaded = load_model(folder)

    expected = plain.model(ids).logits
    tune(plain.model, softmax_temperature=1.5, selection_bias=bias)
    assert loaded.name == "m"
    assert loaded.encode("é") == [0xC3, 0xA9]
    assert torch.equal(loaded.model(ids).logits, plain.model(ids).logits)
    assert not torch.equal(loaded.model(ids).logits, expected)


def test_an_upcycled_model_is_built_and_filled(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=2, n_positions=64)
    settings = {"layers": [1], "num_experts": 4, "top_k": 2}
    model = build_upcycled(config, settings)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(0.0, 0.2, generator=draw)
    config.save_pretrained(tmp_path)
    save_file(
        {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"},
        tmp_path / "model.safetensors",
    )
    write_manifest(tmp_path, Manifest(tokens="bytes", upcycled=settings))
    ids = torch.tensor([list(b"some text")])
    state = torch.random.get_rng_state()

    loaded = load_model(tmp_path)

    assert loaded.family == "upcycled"
    assert torch.equal(loaded.model(ids).logits, model(ids).logits)
    assert torch.equal(torch.random.get_rng_state(), state)

    write_manifest(tmp_path, Manifest(tokens="bytes", upcycled=settings | {"layers": [7]}))
    with pytest.raises(CheckpointError, match=r"moeprof.json: upcycled.layers: must lie in 0..1"):
        load_model(tmp_path)
    write_manifest(tmp_path, Manifest(tokens="bytes", upcycled=settings))

    tensors = load_file(tmp_path / "model.safetensors")
    gate = "transformer.h.1.mlp.gate.weight"
    for change, fault in (
        ({gate: tensors[gate][:2].clone()}, f"{gate} must be .4, 32., got .2, 32."),
        ({"more": torch.zeros(1)}, "the model has no tensor more"),
        ({gate: None}, f"lack 1 tensors, the first is {gate}"),
    ):
        changed = {name: value for name, value in (tensors | change).items() if value is not None}
        save_file(changed, tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match=fault):
            load_model(tmp_path)


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def of_another_family(folder: Path) -> None:
    tiny_model("olmoe").config.save_pretrained(folder)


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def reshape(folder: Path) -> None:
    path = folder / "model.safetensors"
    held = load_file(path)
    held["model.norm.weight"] = torch.zeros(7)
    save_file(held, path, {"format": "pt"})


def lose(folder: Path) -> None:
    path = folder / "model.safetensors"
    held = load_file(path)
    del held["model.norm.weight"]
    save_file(held, path, {"format": "pt"})


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"anything")


def split(folder: Path) -> None:
    """Leave one of two shards that the index names."""
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("token*"):
        path.unlink()


def write(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (shutil.rmtree, "must be a folder with a model, found nothing"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (write("config.json", b"{"), "config.json: must be JSON"),
        (write("config.json", b"\xff\xfe"), "config.json: must be JSON"),
        (write("config.json", b"[]"), "must be a JSON object, got list"),
        (write("config.json", b"{}"), "model_type must be mixtral or .* got None"),
        (
            lambda folder: edit_config(folder, model_type="llama"),
            "model_type must be mixtral or qwen2_moe or .* or gpt_oss, got 'llama'",
        ),
        (
            lambda folder: edit_config(folder, model_type="gpt2"),
            "model_type must be mixtral or .* got 'gpt2'",
        ),
        (
            of_another_family,
            "the weights lack .* tensors of a OlmoeForCausalLM",
        ),
        (
            lambda folder: edit_config(folder, hidden_size="wide"),
            "Transformers cannot load it: .*",
        ),
        (
            lambda folder: edit_config(folder, vocab_size=99),
            r"lm_head.weight must be \[99, 32\] as config.json says, got \[64, 32\]",
        ),
        (
            lambda folder: edit_config(folder, num_hidden_layers=3),
            "the weights lack .* the first is model.layers.2",
        ),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no weights: must have"),
        (pickled, "must be safetensors, found pytorch_model.bin, which can run code"),
        (split, "1 of 2 weight files are missing, the first is model-00002"),
        (cut, r"model.safetensors: is damaged or no safetensors file \(\d+ bytes\)"),
        (write("model.safetensors", b""), r"is damaged or no safetensors file \(0 bytes\)"),
        (
            write("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0"),
            "is damaged or no safetensors file",
        ),
        (reshape, r"model.norm.weight must be \[32\] as config.json says, got \[7\]"),
        (lose, "the weights lack 1 tensors of a MixtralForCausalLM, .* model.norm.weight"),
        (
            lambda folder: edit_config(folder, num_hidden_layers=1),
            r"tensors that a MixtralForCausalLM of .* does not use, the first is model.layers.1.",
        ),
        (
            lambda folder: edit_config(folder, num_experts_per_tok=9),
            r"gate of layer 0: its top_k must lie in 1..8, got 9",
        ),
        (
            lambda folder: edit_config(folder, attn_implementation="some/kernel@main"),
            "config.json: attn_implementation must not name code on the network",
        ),
        (without_tokenizer, "has no tokenizer"),
        (write("tokenizer.json", b"{"), "Transformers cannot load it"),
        (write("moeprof.json", b"{"), "moeprof.json: must be JSON"),
        (
            write("moeprof.json", b'{"format": "moeprof-model", "version": 2}'),
            "version must be at most 1, got 2",
        ),
        (write("moeprof.json", b'{"tokens": "bytes"}'), 'must have "format": "moeprof-model"'),
        (
            lambda folder: write_manifest(folder, Manifest(tokens="bytes")),
            "a model of bytes must know 256 tokens, got 64",
        ),
        (
            lambda folder: write_manifest(
                folder, Manifest(tokens="bytes", sha256={"model.safetensors": "0" * 64})
            ),
            "is damaged: its SHA-256 must be 000000000000…, got ",
        ),
        (
            lambda folder: write_manifest(folder, Manifest(tokens="bytes", sha256={"gone": "0"})),
            "gone: cannot be read",
        ),
        (
            lambda folder: write_manifest(folder, Manifest(tokens="bytes", upcycled={})),
            "model_type must be gpt2, got 'mixtral'",
        ),
        (
            lambda folder: write_manifest(
                folder,
                Manifest(
                    tokens="tokenizer", router=RouterSettings(selection_bias=[[0.0, 1.0], [0.0]])
                ),
            ),
            "moeprof.json: router: ",
        ),
        (
            lambda folder: write_manifest(
                folder,
                Manifest(tokens="tokenizer", router=RouterSettings(selection_bias=[[0.0], [0.0]])),
            ),
            r"moeprof.json: router: selection_bias must be \[2, 8\]",
        ),
    ],
)
def test_a_damaged_folder_is_one_clear_error(
    folder: Path, harm: Callable[[Path], Any], fault: str, capfd: pytest.CaptureFixture[str]
) -> None:
    harm(folder)

    with pytest.raises(CheckpointError, match=fault) as caught:
        load_model(folder)

    assert str(folder) in caught.value.message
    assert capfd.readouterr() == ("", "")


def test_layers_that_predict_further_tokens_may_stand_behind_the_others(folder: Path) -> None:
    path = folder / "model.safetensors"
    further = {"model.layers.2.shared_head.norm.weight": torch.ones(32)}
    save_file(load_file(path) | further, path, {"format": "pt"})

    with pytest.raises(CheckpointError, match=r"have 1 tensors .* model.layers.2.shared_head"):
        load_model(folder)

    edit_config(folder, num_nextn_predict_layers=1)
    assert load_model(folder).family == "mixtral"


def test_a_bias_is_put_where_the_model_is(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "mini")
    router = RouterSettings(selection_bias=torch.ones(2, 8).tolist())
    write_manifest(folder, Manifest(tokens="bytes", router=router))

    gate = find_gates(load_model(folder, device="meta").model)[1]

    bias = gate.rule.tuning.selection_bias
    assert bias is not None
    assert bias.device == gate.gate.weight.device == torch.device("meta")


def test_a_file_is_no_folder(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="must be a folder with a model, found a file"):
        load_model(folder / "config.json")


def test_code_in_the_folder_is_not_run(folder: Path) -> None:
    edit_config(folder, auto_map={"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.C"})
    (folder / "evil.py").write_text("raise SystemExit('the code was run')\n")

    assert load_model(folder).family == "mixtral"


def test_a_plain_gpt2_is_told_how_it_becomes_an_moe(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=300, n_embd=8, n_layer=1, n_head=2, n_positions=8)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)

    with pytest.raises(CheckpointError, match="got 'gpt2'") as caught:
        load_model(tmp_path)

    assert "--upcycle" in str(caught.value.hint)


@pytest.mark.parametrize("device", ["cuda:99", "hpu", "toaster"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_read(device: str) -> None:
    with pytest.raises(DeviceUnavailable, match=f"device '{device}'"):
        load_model(None, device=device)  # type: ignore[arg-type]
