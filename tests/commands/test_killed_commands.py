"""Every command that writes, killed before a change of the disk: its next start ends as a whole.

Nothing is lost for good, nothing half-written has a final name, and nothing is left behind. A few
kills are tried by default, every one with `-m slow`.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from broadbase.data.store.store import open_store
from support.killed import attempt, command

SMALL = {
    "train.steps": 6,
    "train.save_every": 2,
    "train.keep_last": 1,
    "data.validation_rows": 2,
    "data.final_rows": 4,
    "data.holdout": 0.3,
    "machine.precision": "fp32",
    "machine.matmul": "torch",
}
ROWS = {"data.sources.text.batch_size": 4, "data.sources.text.sequence_length": 32}
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
CONTENT = (".safetensors", ".gguf", ".png", ".npy")  # what must come out with the same bytes


def pretrain(place: Path, out: str, **more: object) -> tuple[object, ...]:
    changes = {**SMALL, **ROWS, **more}
    settings = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    return (
        "pretrain",
        "text",
        "--data",
        place / "d",
        "--depth",
        1,
        "--out",
        place / out,
        *settings,
    )


def resumed(place: Path) -> tuple[object, ...]:
    """What a user types after a run was killed."""
    began = (place / "out" / "config.yaml").exists()
    return ("resume", place / "out") if began else pretrain(place, "out")


def adapted(place: Path) -> tuple[object, ...]:
    how = (
        "--method",
        "finetune",
        "--train-size",
        8,
        "--test-size",
        8,
        "--splits",
        2,
        "--set",
        "steps=2",
    )
    return ("adapt", place / "base", "--data", place / "l.jsonl", *how, "--out", place / "out")


def exported(form: str, name: str) -> Callable[[Path], tuple[object, ...]]:
    return lambda place: ("export", place / "base", "--to", form, "--out", place / name)


def longer(place: Path) -> tuple[object, ...]:
    """A finished run that takes two more steps."""
    return ("resume", place / "base", "--set", "train.steps=8")


def removed(place: Path) -> tuple[object, ...]:
    (store,) = place.glob("store/text")
    ids = (place / "gone").read_text()
    return ("remove", store.parent, ids)


def gone(place: Path) -> None:
    """A store, and in a file the id of a document to take out."""
    command(*prepared(place))
    (place / "gone").write_text(open_store(place / "store" / "text").ids("train")[0])


def prepared(place: Path) -> tuple[object, ...]:
    return ("prepare", "text", "--data", place / "d", "--store", place / "store",
            "--processes", 1, "--set", "data.holdout=0.3")  # fmt: skip


CASES: dict[str, tuple[Callable[[Path], tuple[object, ...]], tuple[int, ...]]] = {
    "pretrain": (resumed, (150,)),
    "resume": (longer, ()),
    "prepare": (prepared, ()),
    "remove": (removed, ()),
    "adapt": (adapted, (12,)),
    "import": (lambda place: ("import", place / "base", "--to", place / "out"), ()),
    "hf": (exported("hf", "out"), (7,)),
    "gguf": (exported("gguf", "out.gguf"), ()),
    "safetensors": (exported("safetensors", "out.safetensors"), ()),
    "generate": (lambda place: ("generate", place / "pictures", "--out", place / "out.png"), ()),
}
TRIES = [pytest.param(case, False, id=f"{case}-some") for case, (_, some) in CASES.items() if some]
TRIES += [pytest.param(case, True, id=f"{case}-all", marks=pytest.mark.slow) for case in CASES]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, labels, a base of text and one of pictures."""
    place = tmp_path_factory.mktemp("world")
    chance = random.Random(0)
    for folder in ("d", "p"):
        (place / folder).mkdir()
    for i in range(20):
        words = " ".join(chance.choices(WORDS, k=12))
        (place / "d" / f"{i}.txt").write_text(f"document {i} {words}")
        pixels = np.random.default_rng(i).integers(0, 255, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(place / "p" / f"{i}.png")
    rows = [{"text": " ".join(chance.choices(WORDS, k=4)), "label": "ab"[i % 2]} for i in range(60)]
    (place / "l.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command(*pretrain(place, "base"))
    settings = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    command("pretrain", "image", "--data", place / "p", "--depth", 1, "--out", place / "pictures",
            *settings)  # fmt: skip
    return place


def state(place: Path) -> dict[str, str]:
    """The name of every file and folder, and a hash of what must be the same to the bit."""
    matches = {}
    for path in sorted(place.rglob("*")):
        same = path.is_file() and path.suffix in CONTENT
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if same else ""
        matches[str(path.relative_to(place))] = digest
    return matches


def settled(world: Path, place: Path, case: str) -> None:
    """A folder of its own for one try: paths in configs lead into it."""
    place.parent.mkdir(exist_ok=True)
    shutil.copytree(world, place)
    if case == "remove":
        gone(place)


@pytest.mark.parametrize(("case", "every"), TRIES)
def test_killed(world: Path, tmp_path: Path, case: str, every: bool) -> None:
    words, some = CASES[case]
    place = tmp_path / "place"
    settled(world, place, case)
    calls = attempt(place, command, *words(place))
    assert calls is not None
    full = state(place)
    killed = 0
    for number in range(1, calls + 1) if every else some:
        shutil.rmtree(place)
        settled(world, place, case)
        killed += attempt(place, command, *words(place), last=number) is None
        if state(place) != full:
            with suppress(AssertionError):  # refused where the result is there already, and whole
                attempt(place, command, *words(place))
        left = {name: digest for name, digest in state(place).items() if full.get(name) != digest}
        assert not left, f"{case}, killed before change {number} of {calls}"
        assert state(place).keys() == full.keys(), f"{case}, killed at {number} of {calls}"
    assert killed == (calls if every else len(some)), f"{calls} changes"
