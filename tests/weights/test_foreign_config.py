"""The JSON files of a model folder, damaged in any way: an error that says so, and never a crash.

Every family that is published and folders of our own. `load`, `import --to`, `import --check` and
`export` give a result or a BroadbaseError.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from broadbase.commands.app import app
from broadbase.core.errors import BroadbaseError, DataError
from broadbase.weights.folder import load, save
from support.bases import mixed_base, normed_base, text_base
from support.references import FAMILIES, llama, saved

OURS = {"ours": text_base, "ours normed": normed_base, "ours mixed": mixed_base}
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 10**6, 10**9, 2**31, 2**63, 10**30, 0.0, 0.5, -1.5, 1e-30,
    1e300, "", "x", "1", "gelu", "\ud800", [], [1], [0, 1], ["x"], [[]], {}, {"x": 1},
    {"name": "x"},
)  # fmt: skip
TEXTS = (
    b"", b" ", b"null", b"[]", b"5", b'"x"', b"{", b"}", b"[" * 200_000, b'{"a":' * 200_000,
    b"\xff\xfe{}", b'\xef\xbb\xbf{"model_type": "x"}', b'{"a": NaN}', b'{"a": -Infinity}',
    b'{"a": 1e999}', b'{"a": ' + b"9" * 5000 + b"}", b'{"a": 1, "a": 2}', b"{}",
)  # fmt: skip
SIDE = (
    "preprocessor_config.json", "processor_config.json", "generation_config.json",
    "special_tokens_map.json", "tokenizer_config.json", "tokenizer.json",
    "model.safetensors.index.json",
)  # fmt: skip
SIDES: Mapping[str, Any] = {
    "preprocessor_config.json": {
        "crop_size": {"height": 20, "width": 20}, "do_center_crop": True, "do_normalize": True,
        "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5], "resample": 3, "rescale_factor": 0.00392,
        "size": {"shortest_edge": 20},
    },
    "generation_config.json": {"eos_token_id": [1, 2], "do_sample": True, "temperature": 0.5},
    "special_tokens_map.json": {"bos_token": {"content": "<s>"}, "mask_token": "<mask>"},
    "tokenizer_config.json": {"tokenizer_class": "X", "bos_token": "<s>", "add_bos_token": True},
}  # fmt: skip


class LateError(BaseException):
    """Not done in time; nothing catches it."""


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """What takes longer fails."""

    def late(*_: object) -> None:
        raise LateError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def mutated(rng: random.Random, tree: Any) -> bytes:
    """One to three values of a JSON tree changed, removed, added or moved, or its bytes damaged."""
    if rng.random() < 0.1:
        return rng.choice(TEXTS)
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.choice((1, 1, 2, 3))):
        change(rng, tree)
    text = json.dumps(tree).encode()
    if rng.random() < 0.15:
        at = rng.randrange(len(text))
        text = rng.choice((text[:at], text[:at] + rng.randbytes(2) + text[at:], text[at:]))
    return text


def change(rng: random.Random, tree: Any) -> None:
    """One value, at any depth."""
    positions = list(spots(tree))
    if not positions:
        return
    node, key = rng.choice(positions)
    match rng.choice(("value", "value", "value", "remove", "add", "number", "swap")):
        case "value":
            node[key] = rng.choice(VALUES)
        case "remove":
            del node[key]
        case "add" if isinstance(node, dict):
            node[rng.choice(("x", "attn_implementation", "quantization_config"))] = {"a": node[key]}
        case "number" if isinstance(node[key], int | float):
            node[key] = rng.choice((-node[key], node[key] + 1, node[key] * 1000, float(node[key])))
        case "swap":
            other, name = rng.choice(positions)
            node[key] = json.loads(json.dumps(other[name]))


def spots(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every value of a tree, by what holds it."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from spots(tree[key])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder of a family, made when it is first wanted."""
    root = tmp_path_factory.mktemp("families")

    def folder(name: str) -> Path:
        place = root / name.replace(" ", "_")
        if not place.exists() and name in OURS:
            save(OURS[name](), place)
        elif not place.exists():
            saved(FAMILIES[name], place)
            for side, content in SIDES.items():
                (place / side).write_text(json.dumps(content))
            base = text_base()
            base.codecs["text"].save(place)
        return place

    return folder


def attempt(folder: Path, work: Path, rng: random.Random) -> bool:
    """One thing done with a folder; whether it went well."""
    what = rng.choice(("load", "load", "load", "to", "check", "hf", "gguf", "safetensors"))
    out = work / "out"
    with within(20):
        if what == "load":
            with suppress(BroadbaseError):
                codec = load(folder).codecs.get("image")
                with suppress(ValueError):  # what is no picture of the size that it takes
                    if codec is not None:
                        codec.encode(Image.new("RGB", (30, 20), "red"))
                return True
            return False
        command = ["export", folder, "--to", what, "--out", out]
        if what in ("to", "check"):
            command = ["import", folder, f"--{what}", *([out] if what == "to" else [])]
        done = CliRunner().invoke(app, [str(each) for each in command])
    good = done.exception is None or isinstance(done.exception, BroadbaseError)
    assert good or (what == "check" and done.exit_code == 1), done.exception  # it differs
    return done.exception is None


def fuzz(folders: Callable[[str], Path], work: Path, name: str, tries: int, seed: int = 0) -> int:
    """How many of so many damaged folders of a family could still be used."""
    rng, used = random.Random(f"{name} {seed}"), 0
    source = folders(name)
    for _ in range(tries):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(source, work / "m", copy_function=os.link)
        seen = [file for file in SIDE if (source / file).exists()]
        file = "config.json" if rng.random() < 0.8 else rng.choice(["config.json", *seen])
        text = mutated(rng, json.loads((source / file).read_text()))
        (work / "m" / file).unlink()
        (work / "m" / file).write_bytes(text)
        try:
            used += attempt(work / "m", work, rng)
        except BaseException as error:
            raise AssertionError(f"{name} {file}: {text[:3000]!r}") from error
    return used


@pytest.mark.parametrize("name", ["gemma3 scaled", "llava", "beit each layer", "ours normed"])
def test_a_damaged_folder(folders: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    assert fuzz(folders, tmp_path / "work", name, 12) < 12


def tree(folder: Path) -> Any:
    """What its config.json holds."""
    return json.loads((folder / "config.json").read_text())


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    saved(lambda: llama(num_hidden_layers=1), folder)
    return folder


@pytest.fixture
def folder(llama_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(llama_folder, tmp_path / "m")
    return tmp_path / "m"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_hidden_layers", 10**9, r"num_hidden_layers is 1000000000, .* more than \d+ tensors"),
        ("hidden_size", "48", r"field `hidden_size`: .*integer \(got '48'\)"),
        ("hidden_size", 10**12, "field `hidden_size`: .*less than or equal"),
        ("vocab_size", 10**9, r"is \[97, 48\], and by config.json \[1000000000, 48\]"),
        ("rms_norm_eps", None, "field `rms_norm_eps`"),
        ("num_attention_heads", 0, "field `num_attention_heads`"),
        ("tie_word_embeddings", "false", "field `tie_word_embeddings`"),
        ("eos_token_id", [], "field `eos_token_id"),
        ("rope_parameters", {"rope_type": "linear"}, "no field 'factor'"),
        ("rope_parameters", {"rope_theta": "x"}, "field `rope_parameters.rope_theta`"),
        ("layer_types", ["full_attention"] * 9, "names 9 layers, and num_hidden_layers is 1"),
        ("model_type", ["llama"], "model_type"),
    ],
)
def test_a_field_without_meaning_is_named(
    folder: Path, field: str, value: Any, message: str
) -> None:
    (folder / "config.json").write_text(json.dumps({**tree(folder), field: value}))
    with within(10), pytest.raises(BroadbaseError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", "x", r"older version of Broadbase \(format x\)"),
        ("format", 1, r"older version of Broadbase \(format 1\); train it again"),
        ("format", 10**30, "upgrade"),
        ("usage.attention", "x", "no pattern is called 'x'; known: full, causal"),
        ("usage.attention_of", {"text": "full"}, "no tower is called 'text'"),
        ("usage.grids", {"texts": [1]}, "no modality is called 'texts'; known: text"),
        ("usage.generator.name", "flow", "no generator is called 'flow'"),
        ("codecs", "text", "field `codecs`"),
        ("codecs", ["texts"], "no modality is called 'texts'; known: text"),
        ("model", [], "field `model`"),
        ("model.towers.main.layers.0.repeat", 10**9, "repeat"),
        ("model.modalities.text.vocab_size", 10**9, "by config.json"),
    ],
)
def test_our_own_part_is_as_strict(tmp_path: Path, path: str, value: Any, message: str) -> None:
    save(text_base(), tmp_path / "m")
    config = tree(tmp_path / "m")
    *parents, last = path.split(".")
    node = config["broadbase"]
    for key in parents:
        node = node[int(key) if key.isdigit() else key]
    node[last] = value
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with within(10), pytest.raises(BroadbaseError, match=message):
        load(tmp_path / "m")


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_what_is_no_json_object_is_named(folder: Path, name: str, text: bytes) -> None:
    (folder / name).write_bytes(text)
    with within(10), pytest.raises(BroadbaseError, match=r"json|model_type|holds"):
        load(folder)


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "socket"])
@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "vocab.txt"]
)
def test_what_is_no_file_is_not_opened(folder: Path, name: str, kind: str) -> None:
    item = folder / name
    item.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(item)
    elif kind == "device":
        item.symlink_to("/dev/zero")
    elif kind == "folder":
        item.mkdir()
    else:
        os.chdir(folder)  # the path of a socket is short
        socket.socket(socket.AF_UNIX).bind(name)
    with within(10), pytest.raises(DataError, match=name):
        load(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_mean", [0.5, 0.5]), ("image_mean", "x"), ("image_std", [0.5, 0.5, 0]),
        ("rescale_factor", None), ("rescale_factor", "x"), ("resample", 99), ("do_resize", "yes"),
        ("size", {"height": 10**9, "width": 10**9}), ("size", {"shortest_edge": 10**6}),
        ("size", 0), ("size", []), ("size", {}), ("crop_size", 0), ("crop_size", {"height": 20}),
    ],
)  # fmt: skip
def test_how_pictures_are_taken_is_as_strict(
    folders: Callable[[str], Path], tmp_path: Path, field: str, value: Any
) -> None:
    shutil.copytree(folders("vit"), tmp_path / "m")
    said = {**SIDES["preprocessor_config.json"], field: value}
    (tmp_path / "m" / "preprocessor_config.json").write_text(json.dumps(said))
    with within(10), pytest.raises(DataError, match=r"preprocessor_config\.json"):
        load(tmp_path / "m")


def test_frequencies_of_old_files_are_read(tmp_path: Path) -> None:
    """As Llamas were saved before 2023, in any precision; other frequencies are refused."""
    saved(lambda: llama(num_hidden_layers=2), tmp_path / "m")
    file, name = (
        tmp_path / "m" / "model.safetensors",
        "model.layers.{}.self_attn.rotary_emb.inv_freq",
    )
    weights = load_file(file)
    turns = 1 / 10000.0 ** (torch.arange(0, 16, 2) / 16)
    for kind in (torch.float32, torch.float16, torch.bfloat16):
        save_file(weights | {name.format(i): turns.to(kind).clone() for i in range(2)}, file)
        save(load(tmp_path / "m"), tmp_path / "again")
        assert load_file(tmp_path / "again" / "model.safetensors")[name.format(1)].dtype == kind
    save_file(weights | {name.format(1): turns**2}, file)
    with pytest.raises(DataError, match=r"layers\.1.*not what it is derived from"):
        load(tmp_path / "m")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FAMILIES, *OURS])
def test_many_damaged_folders(folders: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    """More than 5,000 in all."""
    assert 0 < fuzz(folders, tmp_path / "work", name, 90, seed=1) < 90
