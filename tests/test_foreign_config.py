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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from broadbase.cli import app
from broadbase.core.errors import BroadbaseError
from broadbase.weights.folder import load, save
from references import saved
from test_check import FAMILIES
from test_model_folder import mixed_base, normed_base, text_base

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


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """What takes longer fails."""

    def late(*_: object) -> None:
        raise KeyboardInterrupt(f"not done after {seconds} s")

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
    places = list(spots(tree))
    if not places:
        return
    node, key = rng.choice(places)
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
            other, name = rng.choice(places)
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
                load(folder)
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
        known = [file for file in SIDE if (source / file).exists()]
        file = "config.json" if rng.random() < 0.8 else rng.choice(["config.json", *known])
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


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FAMILIES, *OURS])
def test_many_damaged_folders(folders: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    """More than 5,000 in all."""
    assert 0 < fuzz(folders, tmp_path / "work", name, 90, seed=1) < 90
