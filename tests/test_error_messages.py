"""Bad input: every message names the place, the reason and the remedy."""

from __future__ import annotations

import gzip
import json
import os
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from broadbase.core.config import override
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.sources import Reject, SourceConfig
from broadbase.data.sources.files import ImageFilesConfig
from broadbase.data.sources.json_files import JsonLinesConfig
from broadbase.data.sources.texts import TextFilesConfig
from broadbase.modalities.image import ImageConfig
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.train.metrics_log import MetricsLog
from support import programs
from support.programs import BROADBASE
from support.stores import stored


def reject(source: SourceConfig) -> Reject:
    (only,) = source.records()
    assert isinstance(only, Reject)
    return only


def header_of(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds almost nothing."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 10)
    parts = [
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (chunk, data)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


TEXTS = {
    "binary": (b"\x7fELF\x02\x00\x01", r"binary data.*NUL byte at 5"),
    "latin1": ("café".encode("latin1"), r"not UTF-8 at byte 3 \(0xe9\).*iconv"),
    "empty": (b" \n", r"empty"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_texts(tmp_path: Path, kind: str) -> None:
    data, reason = TEXTS[kind]
    (tmp_path / "bad.txt").write_bytes(data)
    result = reject(TextFilesConfig(path=str(tmp_path)))
    assert result.origin.endswith("bad.txt")
    assert re.search(reason, result.reason)


def test_a_truncated_gz(tmp_path: Path) -> None:
    complete = gzip.compress(os.urandom(5000))
    (tmp_path / "a.txt.gz").write_bytes(complete[: len(complete) // 2])
    result = reject(TextFilesConfig(path=str(tmp_path), pattern="**/*.gz"))
    assert "truncated or damaged gzip" in result.reason


def test_a_decompression_bomb(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "bomb.txt.gz", "wb") as file:
        for _ in range(40):
            file.write(b"a" * (1 << 20))
    result = reject(TextFilesConfig(path=str(tmp_path), pattern="**/*.gz", limit=8))
    assert "more than 8 MiB" in result.reason


LINES = {
    "broken": ('{"text": "a"', r"broken JSON at column \d+"),
    "missing": ('{"txt": "a"}', r"no field `text`; did you mean `txt`"),
    "number": ('{"text": 3}', r"field `text` is int, expected a text"),
    "list": ("[1]", r"expected an object, got list"),
}


@pytest.mark.parametrize("kind", LINES)
def test_json_lines(tmp_path: Path, kind: str) -> None:
    line, reason = LINES[kind]
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n' + line + "\n")
    _, result = JsonLinesConfig(path=str(tmp_path)).records()
    assert isinstance(result, Reject)
    assert result.origin.endswith("a.jsonl:2")
    assert re.search(reason, result.reason)


def test_images(tmp_path: Path) -> None:
    (tmp_path / "huge.png").write_bytes(header_of(50_000, 50_000))
    result = reject(ImageFilesConfig(path=str(tmp_path)))
    assert "2500000000 pixels" in result.reason
    (tmp_path / "huge.png").write_bytes(header_of(10_000, 9_000))
    result = reject(ImageFilesConfig(path=str(tmp_path)))
    assert "10000 x 9000 pixels, more than 64 megapixels" in result.reason
    (tmp_path / "huge.png").write_bytes(b"not a picture")
    assert "not an image" in reject(ImageFilesConfig(path=str(tmp_path))).reason
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "huge.png")
    (tmp_path / "huge.png").write_bytes((tmp_path / "huge.png").read_bytes()[:600])
    assert isinstance(reject(ImageFilesConfig(path=str(tmp_path))), Reject)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.txt").chmod(0)
    assert "no permission" in reject(TextFilesConfig(path=str(tmp_path))).reason


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        list(TextFilesConfig(path=str(tmp_path / "no")).records())
    (tmp_path / "a.log").write_text("x")
    with pytest.raises(DataError, match=r"no file .* matches .*it holds 1 \.log.*pattern"):
        list(TextFilesConfig(path=str(tmp_path)).records())


def test_rejects_beyond_the_budget_stop_the_run(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"text {i}"}) for i in range(30)] + ["{"]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    source = JsonLinesConfig(path=str(tmp_path / "a.jsonl"))
    with pytest.raises(DataError, match=r"1 of 31 records.*more than the 1\.0%"):
        stored(source, tmp_path / "s", holdout=0.3)
    (row,) = (tmp_path / "s" / "rejected.jsonl").read_text().splitlines()
    assert json.loads(row)["origin"].endswith("a.jsonl:31")
    store = stored(source, tmp_path / "s", holdout=0.3, rejects=0.05)
    assert store.manifest["counts"]["rejected"] == 1


CONFIGS: dict[str, tuple[str, str]] = {
    "unknown": ("optim.learning_rate=1", r"unknown field `optim\.learning_rate`; did you mean"),
    "zero rate": ("optim.lr=0", r"`optim\.lr`.*greater than 0"),
    "nan rate": ("optim.lr=.nan", r"`optim\.lr`.*finite"),
    "no equals": ("optim.lr", r"has no '='"),
    "unknown choice": (
        "objective.name=maskd",
        r"no objective is called 'maskd'; did you mean `masked`",
    ),
    "a word": ("train.steps=many", r"`train\.steps`.*valid integer"),
    "no modality": (
        "data.sources.text.modality=txt",
        r"the model has no 'txt'; did you mean `text`",
    ),
    "another choice": (
        "optim.name=adamw",
        r"unknown field `optim\.muon_lr`: 'adamw' lacks it; .*--set 'optim=\{name: adamw\}'",
    ),
    "no settings": (
        "model.towers.main.layers.0.block.attention.softmax.cap=1",
        r"softmax\.cap`; 'plain' has no settings",
    ),
    "deep": ("model.towers.main.layers.0.block.attention.head=3", r"unknown field.*`model\.towers"),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_settings(kind: str) -> None:
    setting, message = CONFIGS[kind]
    tree = find_recipe("text").build(1, "x").tree()
    with pytest.raises(ConfigError, match=message):
        RunConfig.from_tree(override(tree, setting))


def test_on_and_off_are_words() -> None:
    """YAML 1.1 would read them as true and false."""
    tree = find_recipe("text").build(1, "x").tree()
    config = RunConfig.from_tree(override(tree, "machine.compile=off"))
    assert config.machine.compile == "off"
    assert RunConfig.from_tree(yaml.safe_load(config.yaml())) == config


def test_an_unknown_field_in_yaml(tmp_path: Path) -> None:
    tree: dict[str, Any] = find_recipe("text").build(1, "x").tree()
    tree["optim"]["learning_rate"] = tree["optim"].pop("lr")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match=r"unknown field `optim\.learning_rate`"):
        RunConfig.read(tmp_path / "c.yaml")


def test_an_unknown_field_of_a_modality_in_a_tree() -> None:
    tree: dict[str, Any] = find_recipe("clip").build(1, "x").tree()
    tree["model"]["heads"]["image_joint"]["embedding"] = 3
    with pytest.raises(ConfigError, match=r"image_joint\.embedding`; did you mean.*embedding_dim`"):
        RunConfig.from_tree(tree)


def test_raw_values() -> None:
    codec = ImageConfig(height=4, width=4, channels=1, patch=2).fit([])
    for raw, message in (
        (np.full((4, 4), np.nan), "finite"),
        (np.full((4, 4), 2.0), r"within \[0, 1\]"),
        (np.zeros((3, 4)), r"expected an array of \(4, 4, 1\)"),
        ("x", "expected an image"),
    ):
        with pytest.raises(ValueError, match=message):
            codec.encode(raw)
    with pytest.raises(ConfigError, match="patch 3 does not divide 4 x 4"):
        ImageConfig.from_tree({"name": "image", "height": 4, "width": 4, "patch": 3})


def test_exit_codes(tmp_path: Path) -> None:
    """One line on stderr, nothing on stdout, no traceback."""
    (tmp_path / "empty").mkdir()
    for words, code, message in (
        (("pretrain", "txt"), 2, "did you mean `text`"),
        (("pretrain", "text", "--data", str(tmp_path / "empty")), 3, "it holds nothing"),
        (("resume", str(tmp_path)), 2, "there is no config.yaml"),
        (("generate", str(tmp_path)), 3, "is this a model folder"),
        (("pretrain", "text", "--depht", "3"), 2, "--depht"),
    ):
        done = programs.run(BROADBASE, *words)
        assert done.returncode == code, done.stderr
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert not done.stdout


def test_more_repeats_than_allowed_are_refused(tmp_path: Path) -> None:
    """12 steps of 4 rows read the rows of a small folder often; the message says how often."""
    (tmp_path / "texts").mkdir()
    for i in range(40):
        (tmp_path / "texts" / f"{i}.txt").write_text(f"{i} is the number of this text")
    tree = find_recipe("bytes").build(1, str(tmp_path / "texts")).tree()
    tree["data"]["holdout"] = 0.3
    tree["train"]["steps"] = 12
    tree["data"]["sources"]["bytes"] |= {"batch_size": 4, "sequence_length": 64}
    run = Run.create(RunConfig.from_tree(tree), tmp_path / "run")
    epochs = run.epochs()["bytes"]
    assert epochs == pytest.approx(48 / len(run.rows("train")["bytes"]))
    tree["data"]["sources"]["bytes"]["max_epochs"] = epochs + 0.1
    run.with_config(RunConfig.from_tree(tree)).trainer(MetricsLog())
    tree["data"]["sources"]["bytes"]["max_epochs"] = epochs - 0.1
    with pytest.raises(ConfigError, match=r"bytes\.max_epochs: .* times, .* allowed; give it more"):
        run.with_config(RunConfig.from_tree(tree)).trainer(MetricsLog())
