"""The model folder: what is saved is what is loaded, and a text decoder is a Llama to others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    EuroBertForMaskedLM,
    LlamaForCausalLM,
)
from typer.testing import CliRunner

from broadbase.commands.app import app
from broadbase.core.errors import BroadbaseError, ConfigError, DataError
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base
from broadbase.inference.usages import plain_usage
from broadbase.weights.folder import load, save
from broadbase.weights.gguf import write_gguf
from support import programs
from support.bases import TEXTS, mixed_base, normed_base, text_base
from support.paths import TESTS
from support.references import bert, saved, stored


@pytest.mark.parametrize("make", [text_base, normed_base, mixed_base])
def test_round_trip(make: object, tmp_path: Path) -> None:
    base = make()  # type: ignore[operator]
    save(base, tmp_path / "m")
    again = load(tmp_path / "m")
    assert again.config == base.config
    assert again.usage.attention == base.usage.attention
    for name, value in base.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])
    space = next(iter(base.codecs))
    assert torch.equal(
        base.logits("the cat", modality=space), again.logits("the cat", modality=space)
    )
    how = {"modality": space, "max_new_tokens": 8, "sampling": SamplingConfig(seed=3)}
    assert base.generate("the", **how) == again.generate("the", **how)


@pytest.mark.parametrize("make", [text_base, normed_base])
def test_a_text_decoder_opens_as_a_llama(make: Callable[[], Base], tmp_path: Path) -> None:
    base = make()
    save(base, tmp_path)
    expected, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(expected, LlamaForCausalLM)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    codec = base.codecs["text"]
    ids = torch.tensor([[int(codec.start), *codec.encode("the cat sat").values]])
    with torch.no_grad():
        assert (expected(ids).logits[0] - base.logits("the cat sat")).abs().max() < 1e-5
    words = AutoTokenizer.from_pretrained(tmp_path)
    assert words("the cat sat", add_special_tokens=False).input_ids == ids[0, 1:].tolist()


def test_an_encoder_of_text_opens_as_a_eurobert(tmp_path: Path) -> None:
    """The vector that stands for what is hidden is the row of one more id there."""
    base = replace(text_base(), usage=plain_usage("full"))
    save(base, tmp_path)
    expected, report = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(expected, EuroBertForMaskedLM)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    codec = base.codecs["text"]
    values = codec.encode("the cat sat").values
    ids = torch.tensor([[int(codec.start), *values, int(codec.end)]])  # type: ignore[arg-type]
    with torch.no_grad():
        assert (expected(ids).logits[0, :, :300] - base.logits("the cat sat")).abs().max() < 1e-5
    again = load(tmp_path)
    for name, value in base.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])
    with torch.no_grad():
        states = AutoModel.from_pretrained(tmp_path)(ids).last_hidden_state.mean(dim=1)
    assert np.abs(again.embed(["the cat sat"], layers=False) - states.numpy()).max() < 1e-5


def test_a_mixed_base_says_what_it_is(tmp_path: Path) -> None:
    save(mixed_base(), tmp_path / "m")
    assert json.loads((tmp_path / "m" / "config.json").read_text())["model_type"] == "broadbase"


def test_saving_again_replaces(tmp_path: Path) -> None:
    save(mixed_base(), tmp_path / "m")
    save(text_base(), tmp_path / "m")
    assert list(load(tmp_path / "m").codecs) == ["text"]
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_sharded_weights_are_read(tmp_path: Path) -> None:
    base = mixed_base()
    save(base, tmp_path)
    complete = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = sorted(complete)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, chosen in parts.items():
        save_file({n: complete[n] for n in chosen}, tmp_path / file)
    index = {"weight_map": {n: file for file, chosen in parts.items() for n in chosen}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert torch.equal(
        load(tmp_path).logits("x", modality="bytes"), base.logits("x", modality="bytes")
    )


def damage(folder: Path, how: str) -> None:
    config, weights = folder / "config.json", folder / "model.safetensors"
    tree = json.loads(config.read_text())
    if how == "no config":
        config.unlink()
    elif how == "broken config":
        config.write_text("{")
    elif how == "future":
        tree["broadbase"]["format"] = 3
        config.write_text(json.dumps(tree))
    elif how == "unknown type":
        config.write_text(json.dumps({"model_type": "mamba"}))
    elif how == "pickle":
        weights.rename(folder / "pytorch_model.bin")
    elif how == "cut":
        weights.write_bytes(weights.read_bytes()[:-5])
    elif how == "tensor gone":
        tensors = load_file(weights)
        tensors.pop("towers.main.final_norm.weight")
        save_file(tensors, weights)


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("no config", DataError, "config.json cannot be read"),
        ("broken config", DataError, "config.json is not JSON"),
        ("future", DataError, "format 3.*upgrade"),
        ("unknown type", ConfigError, "'mamba' is not supported.*llama"),
        ("pickle", DataError, "pytorch_model.bin can run code.*convert the weights to safetensors"),
        ("cut", DataError, "model.safetensors cannot be read"),
        ("tensor gone", DataError, "final_norm.weight"),
    ],
)
def test_a_bad_folder(tmp_path: Path, how: str, kind: type[BroadbaseError], message: str) -> None:
    save(mixed_base(), tmp_path)
    damage(tmp_path, how)
    with pytest.raises(kind, match=message):
        load(tmp_path)


def test_a_full_disk_leaves_the_old_folder(tmp_path: Path) -> None:
    """A file-size limit in another process stands for the full disk: writes fail midway."""
    save(text_base(), tmp_path / "m")
    before = (tmp_path / "m" / "config.json").read_bytes()
    script = (
        "import resource, signal, sys; sys.path[:0] = sys.argv[2:];"
        "from pathlib import Path; from support.bases import mixed_base;"
        "from broadbase.weights.folder import save;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "save(mixed_base(), Path(sys.argv[1]))"
    )
    done = programs.run(script, tmp_path / "m", TESTS)
    assert "ResourceError" in done.stderr
    assert "cannot be written" in done.stderr
    assert (tmp_path / "m" / "config.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_embeddings_do_not_depend_on_the_batch() -> None:
    base = text_base()
    together = base.embed(TEXTS)
    apart = torch.cat([torch.from_numpy(base.embed([t])) for t in TEXTS])
    assert torch.allclose(torch.from_numpy(together), apart, atol=1e-5)


def test_stop_and_seed() -> None:
    base = text_base()
    how = {"max_new_tokens": 30, "sampling": SamplingConfig(seed=5)}
    text = base.generate("the", **how)
    assert text == base.generate("the", **how)
    assert text != base.generate("the", max_new_tokens=30, sampling=SamplingConfig(seed=6))
    middle = text[len(text) // 2]
    assert base.generate("the", stop=[middle], **how) == text[: text.index(middle)]


def test_sampling_is_restricted() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).expand(500, -1)
    assert set(SamplingConfig(temperature=0).build()(logits).tolist()) == {0}
    assert set(SamplingConfig(top_k=2).build()(logits).tolist()) == {0, 1}
    assert set(SamplingConfig(top_p=0.6).build()(logits).tolist()) == {0}
    assert set(SamplingConfig().build()(logits).tolist()) == {0, 1, 2, 3}


def test_a_masked_base_does_not_generate() -> None:
    base = text_base()
    masked = Base(base.config, base.model, base.codecs, plain_usage("full"))
    with pytest.raises(ConfigError, match="'full' and cannot generate"):
        masked.generate("the")


def test_an_image_is_drawn_complete() -> None:
    base = mixed_base()
    image = base.generate(modality="image", grid=(2, 2))
    assert image.shape == (4, 4, 1)
    assert 0 <= image.min() <= image.max() <= 1


def test_gguf_holds_the_model_and_its_tokenizer(tmp_path: Path) -> None:
    """Read back by the gguf package: turned back to halves, queries are ours again."""
    base = text_base()
    write_gguf(base, tmp_path / "m.gguf")
    reader = GGUFReader(tmp_path / "m.gguf")
    text = {name: field.contents() for name, field in reader.fields.items()}
    assert text["general.architecture"] == "llama"
    assert text["tokenizer.ggml.pre"] == "gpt-2"
    assert text["tokenizer.ggml.bos_token_id"] == int(base.codecs["text"].start)
    assert len(text["tokenizer.ggml.tokens"]) == 300
    tensors = {tensor.name: torch.tensor(tensor.data) for tensor in reader.tensors}
    state = base.model.state_dict()
    assert torch.equal(tensors["token_embd.weight"], state["spaces.text.embedding.weight"])
    pairs = tensors["blk.1.attn_q.weight"].unflatten(0, (2, 4, 2)).transpose(1, 2)
    q = state["towers.main.blocks.1.attention.branch.q.weight"]
    assert torch.equal(pairs.reshape(q.shape), q)


def test_import_and_export_from_the_shell(tmp_path: Path) -> None:
    run = CliRunner()
    reference = saved(bert, tmp_path / "theirs")
    done = run.invoke(app, ["import", str(tmp_path / "theirs"), "--check", "--json"])
    assert done.exit_code == 0, done.output
    reported = json.loads(done.stdout.splitlines()[-1])
    assert reported["type"] == "bert"
    assert [row["inputs"] for row in reported["checked"]] == ["unpadded", "padded"]
    assert all(0 < row["difference"] < 1e-5 for row in reported["checked"])
    done = run.invoke(app, ["import", str(tmp_path / "theirs"), "--to", str(tmp_path / "ours")])
    assert done.exit_code == 0, done.output
    assert stored(tmp_path / "ours") == stored(tmp_path / "theirs")
    again = type(reference).from_pretrained(tmp_path / "ours")
    assert torch.equal(again.cls.predictions.bias, reference.cls.predictions.bias)
    save(text_base(), tmp_path / "text")
    for form in ("hf", "safetensors", "gguf"):
        out = tmp_path / (f"as-{form}" if form == "hf" else f"as.{form}")
        done = run.invoke(app, ["export", str(tmp_path / "text"), "--to", form, "--out", str(out)])
        assert done.exit_code == 0, done.output
        assert out.exists()
    assert json.loads((tmp_path / "as-hf" / "generation_config.json").read_text())["do_sample"]
    assert "library_name: transformers" in (tmp_path / "as-hf" / "README.md").read_text()
    done = run.invoke(app, ["import", "no such place"])
    assert isinstance(done.exception, ConfigError)
