"""Files from strangers: an error that names what is wrong, never a crash or a wrong tensor."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from broadbase.core.errors import BroadbaseError, ConfigError, DataError
from broadbase.weights.folder import load, save
from broadbase.weights.tensors import Tensors
from support.programs import run
from support.references import bert, gpt2, gpt_oss, llava, mistral, saved

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    saved(lambda: mistral(num_hidden_layers=1), tmp_path)
    return tmp_path


def cut(folder: Path, files: dict[str, str]) -> None:
    """The single file as two, under the names that the index gives them."""
    tensors = load_file(folder / SINGLE)
    names = sorted(tensors)
    (folder / SINGLE).unlink()
    for file, chosen in (("one.safetensors", names[::2]), ("two.safetensors", names[1::2])):
        save_file({name: tensors[name] for name in chosen}, folder / file)
        index = {name: files.get(file, file) for name in chosen}
        full = folder / INDEX
        before = json.loads(full.read_text())["weight_map"] if full.exists() else {}
        full.write_text(json.dumps({"weight_map": before | index}))


def test_shards_are_read(folder: Path) -> None:
    full = load(folder).model.state_dict()
    cut(folder, {})
    for name, tensor in load(folder).model.state_dict().items():
        assert torch.equal(tensor, full[name])


@pytest.mark.parametrize(
    "name",
    [
        "../two.safetensors",
        "/two.safetensors",
        "a/two.safetensors",
        "two.bin",
        "..",
        "\\two.safetensors",
    ],
)
def test_an_index_names_no_file_elsewhere(folder: Path, name: str) -> None:
    cut(folder, {"two.safetensors": name})
    with pytest.raises(DataError, match="no safetensors file of this folder"):
        load(folder)


def test_a_file_that_changes_later_changes_no_model(folder: Path) -> None:
    """Overwritten in place, then cut: nothing of the model lies in the file's own pages."""
    file = folder / SINGLE
    base = load(folder)
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.write(bytes(size))
        opened.truncate(size // 2)
    for name, tensor in base.model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_file_that_is_cut_while_it_is_read_is_an_error(folder: Path) -> None:
    tensors = Tensors(folder)
    file = folder / SINGLE
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)
    every = {name: tensors.piece(name) for name in tensors.stored}
    turned = {name: replace(piece, view=torch.Tensor.clone) for name, piece in every.items()}
    for pieces in (every, turned):
        with pytest.raises(DataError, match=r"model\.safetensors cannot be read"):
            tensors.read(pieces)


def test_a_missing_shard_is_named(folder: Path) -> None:
    cut(folder, {})
    (folder / "two.safetensors").unlink()
    with pytest.raises(DataError, match=r"two\.safetensors is missing"):
        load(folder)


def test_an_index_that_lies_is_refused(folder: Path) -> None:
    cut(folder, {"two.safetensors": "one.safetensors"})
    with pytest.raises(DataError, match=r"says that one\.safetensors holds"):
        load(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.ckpt", "weights.pt"])
def test_pickles_are_refused_unopened(folder: Path, name: str) -> None:
    (folder / SINGLE).rename(folder / name)
    with pytest.raises(DataError, match=rf"{name} can run code.*save_pretrained"):
        load(folder)


def change(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    tensors = load_file(folder / SINGLE)
    tensors.pop(name, None)
    save_file(tensors | ({} if tensor is None else {name: tensor}), folder / SINGLE)


NORM = "model.layers.0.input_layernorm.weight"


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        (NORM, None, f"lacks tensors: {NORM}"),
        (NORM, torch.ones(47), rf"{NORM}.* is \[47\], and by config.json \[48\]"),
        (NORM, torch.ones(48, dtype=torch.int32), "holds I32 numbers"),
        ("model.extra", torch.ones(1), "nothing here uses: model.extra"),
    ],
)
def test_wrong_tensors_are_named(
    folder: Path, name: str, tensor: torch.Tensor | None, message: str
) -> None:
    change(folder, name, tensor)
    with pytest.raises(DataError, match=message):
        load(folder)


def test_blocks_of_four_bits_are_refused(tmp_path: Path) -> None:
    """As gpt-oss is published: the message says how they are converted."""
    saved(gpt_oss, tmp_path)
    name = "model.layers.1.mlp.experts.down_proj"
    change(tmp_path, name, None)
    change(tmp_path, f"{name}_blocks", torch.zeros(5, 48, 2, 16, dtype=torch.uint8))
    change(tmp_path, f"{name}_scales", torch.zeros(5, 48, 2, dtype=torch.uint8))
    with pytest.raises(ConfigError, match=r"MXFP4.*dequantize=True.*save_pretrained"):
        load(tmp_path)


def test_buffers_and_copies_are_verified_and_kept(tmp_path: Path) -> None:
    """As older files have them: places of BERT, the causal mask and the head of GPT-2."""
    reference = saved(bert, tmp_path / "bert")
    positions = torch.arange(64)[None]
    change(tmp_path / "bert", "bert.embeddings.position_ids", positions)
    copy = reference.bert.embeddings.word_embeddings.weight.detach().clone()
    change(tmp_path / "bert", "cls.predictions.decoder.weight", copy)
    save(load(tmp_path / "bert"), tmp_path / "again")
    again = load_file(tmp_path / "again" / SINGLE)
    assert torch.equal(again["bert.embeddings.position_ids"], positions)
    assert torch.equal(again["cls.predictions.decoder.weight"], copy)
    change(tmp_path / "bert", "cls.predictions.decoder.weight", copy + 1)
    with pytest.raises(DataError, match=r"decoder\.weight.*not the same as"):
        load(tmp_path / "bert")
    saved(gpt2, tmp_path / "gpt2")
    seen = torch.ones(1, 1, 128, 128).tril()
    change(tmp_path / "gpt2", "transformer.h.0.attn.bias", seen)
    load(tmp_path / "gpt2")
    change(tmp_path / "gpt2", "transformer.h.0.attn.bias", seen.triu())
    with pytest.raises(DataError, match="not what it is derived from"):
        load(tmp_path / "gpt2")


def header(folder: Path) -> tuple[dict[str, Any], bytes]:
    """Of the single file: its header, and what follows it."""
    full = (folder / SINGLE).read_bytes()
    size = 8 + int.from_bytes(full[:8], "little")
    return json.loads(full[8:size]), full[size:]


def longer(tree: dict[str, Any]) -> bytes:
    return (2**63).to_bytes(8, "little") + json.dumps(tree).encode()


def overlapping(tree: dict[str, Any]) -> bytes:
    tree[NORM]["data_offsets"] = tree["model.norm.weight"]["data_offsets"]
    return framed(json.dumps(tree).encode())


def beyond(tree: dict[str, Any]) -> bytes:
    tree[NORM]["data_offsets"] = [10**15, 10**15 + 192]
    return framed(json.dumps(tree).encode())


def otherwise(tree: dict[str, Any]) -> bytes:
    tree[NORM]["dtype"] = "F64"
    return framed(json.dumps(tree).encode())


def unspoken(tree: dict[str, Any]) -> bytes:
    return framed(json.dumps(tree).encode().replace(b"model.norm", b"model.n\xff\xfem"))


def framed(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize("damage", [longer, overlapping, beyond, otherwise, unspoken])
def test_a_malformed_header_is_an_error(
    folder: Path, damage: Callable[[dict[str, Any]], bytes]
) -> None:
    """A huge length, tensors that overlap, or lie beyond the end, another type, bad UTF-8."""
    tree, rest = header(folder)
    (folder / SINGLE).write_bytes(damage(tree) + rest)
    with pytest.raises(DataError, match=r"model\.safetensors cannot be read"):
        load(folder)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_header_is_an_error(fuzzed: tuple[Path, bytes], data: st.DataObject) -> None:
    """Bytes of the header changed, put in, taken out, or the file cut anywhere."""
    folder, good = fuzzed
    size = 8 + int.from_bytes(good[:8], "little")
    at = data.draw(st.integers(0, size - 1))
    byte = data.draw(st.binary(min_size=1, max_size=4))
    how = data.draw(st.sampled_from(["change", "insert", "remove", "cut"]))
    bad = {
        "change": good[:at] + byte + good[at + len(byte) :],
        "insert": good[:at] + byte + good[at:],
        "remove": good[:at] + good[at + len(byte) :],
        "cut": good[: data.draw(st.integers(0, len(good) - 1))],
    }[how]
    (folder / SINGLE).write_bytes(good)
    expected = load(folder).model.state_dict()
    (folder / SINGLE).write_bytes(bad)
    try:
        result = load(folder).model.state_dict()
    except BroadbaseError:
        pass
    else:  # what was changed says nothing, as a blank at the header's end
        assert all(torch.equal(result[name], expected[name]) for name in expected)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    folder = tmp_path_factory.mktemp("fuzzed")
    saved(lambda: mistral(num_hidden_layers=1), folder)
    return folder, (folder / SINGLE).read_bytes()


MEASURE = """
import sys, torch  # once with a small model first: imports do not count
from broadbase.weights.folder import load
def memory(field):
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(field)) * 1024
load(sys.argv[2])
before = memory("VmRSS")
base = load(sys.argv[1])
held = [*base.model.parameters(), *base.origin.unused_tensors.values()]
print(memory("VmHWM") - before, sum(tensor.nbytes for tensor in held))
"""


LARGE = {
    "gpt2": lambda: gpt2(n_embd=768, n_layer=8, n_head=12, vocab_size=8000),
    "gpt_oss": lambda: gpt_oss(
        hidden_size=512, intermediate_size=1024, num_hidden_layers=4, num_local_experts=8
    ),
    "llava": lambda: llava(
        {"hidden_size": 1020, "intermediate_size": 4000, "vocab_size": 8000, "num_hidden_layers": 3}
    ),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("name", LARGE)
def test_loading_takes_little_more_than_the_weights(
    tmp_path: Path, name: str, *, sharded: bool
) -> None:
    """Below 1.15 times the file, also where all matrices are turned and cut (GPT-2, gpt-oss) and
    where some are kept and not used (LLaVA)."""
    reference = LARGE[name]()
    reference.save_pretrained(tmp_path, max_shard_size="60MB" if sharded else "1GB")
    size = sum(file.stat().st_size for file in tmp_path.glob("*.safetensors"))
    assert size > 200e6
    assert (tmp_path / INDEX).exists() == sharded
    saved(gpt2, tmp_path / "small")
    positions = [str(tmp_path), str(tmp_path / "small")]
    done = run(MEASURE, *positions, check=True)
    peak, weights = (int(n) for n in done.stdout.split())
    assert weights > 0.99 * size
    assert peak < 1.15 * size
