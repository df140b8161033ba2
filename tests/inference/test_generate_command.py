"""`generate` of every kind of run: texts, pictures, transcriptions; and its options."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from typer.testing import CliRunner

from broadbase.commands.app import app
from broadbase.commands.work.generate import read_prompts
from broadbase.core.errors import DataError
from broadbase.evaluate.registry import all_measures, evaluate
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.recipes.resolve import resolve
from broadbase.run.run import Run
from broadbase.weights.folder import load, save
from support.bases import text_base

QUICK = ["machine.device=cpu", "machine.precision=fp32", "data.holdout=0.3", "schedule.warmup=0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, sounds of the same names, and pictures."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "pictures").mkdir()
    for i in range(40):
        (folder / f"{i}.txt").write_text(f"the river {i} runs over the stone " * 3)
        noise = np.random.default_rng(i).normal(size=8000) * 0.1
        soundfile.write(folder / f"{i}.wav", noise, 16_000)
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{i}.png")
    return folder


def trained(recipe: str, data: Path, out: Path) -> Path:
    changes = [*QUICK, "data.final_rows=4", "data.validation_rows=4"]
    Run.create(resolve(recipe, str(data), 1, changes, steps=1, batch_size=4), out).train()
    return out


def invoke(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def moved(run: Path, folder: Path) -> Path:
    """A copy of the model folder of a run that is then deleted."""
    shutil.copytree(run / "model", folder / "copy")
    shutil.rmtree(run)
    return folder / "copy"


def reported(*words: object) -> list[dict[str, Any]]:
    done = invoke("generate", *words, "--json", "--max-new-tokens", "4")
    assert done.exit_code == 0, (done.output, done.exception)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_picture_is_drawn_by_a_run_and_by_its_folder(folder: Path, tmp_path: Path) -> None:
    run = trained("image", folder / "pictures", tmp_path / "run")
    drawn = []
    for i in range(2):
        out = tmp_path / f"{i}.png"
        assert reported(run, "--out", out) == [{"prompt": None, "continuation": str(out)}]
        drawn.append(np.asarray(Image.open(out)))
        run = run if i else moved(run, tmp_path)
    assert drawn[0].shape == (64, 64, 3)
    assert (drawn[0] == drawn[1]).all()
    done = invoke("generate", run, "--prompt", "x")
    assert "leave out --prompt" in str(done.exception)


@pytest.mark.parametrize("recipe", ["t5", "bart"])
def test_an_encoder_reads_the_prompt_and_the_decoder_says(
    recipe: str, folder: Path, tmp_path: Path
) -> None:
    run = trained(recipe, folder, tmp_path / "run")
    words = ["--prompt", "the river", "--prompt", "the", "--temperature", 0]
    both = reported(run, *words)
    assert both == reported(moved(run, tmp_path), *words)
    assert [row["prompt"] for row in both] == ["the river", "the"]
    assert all(isinstance(row["continuation"], str) for row in both)
    run = tmp_path / "copy"
    assert reported(run, *words[2:]) == both[1:]
    assert "add --prompt" in str(invoke("generate", run).exception)
    base = load(run)
    outputs = base.generate_batch(
        ["the river", "the"], max_new_tokens=4, sampling=SamplingConfig(temperature=0)
    )
    assert outputs == [row["continuation"] for row in both]


def test_sounds_are_transcribed(folder: Path, tmp_path: Path) -> None:
    run = trained("speech", folder, tmp_path / "run")
    result = reported(run, "--audio", folder / "1.wav", "--audio", folder / "2.wav")
    run = moved(run, tmp_path)
    assert result == reported(run, "--audio", folder / "1.wav", "--audio", folder / "2.wav")
    assert [type(row["continuation"]) for row in result] == [str, str]
    assert reported(run, "--audio", folder / "1.wav") == result[:1]
    for words, message in (
        (["--audio", folder / "1.txt"], "1.txt"),
        (["--audio", folder / "no.wav"], "no.wav does not exist"),
        ([], "add --prompt, --image or --audio"),
    ):
        done = invoke("generate", run, *words)
        assert message in str(done.exception), done.exception


def test_a_run_with_normalised_patches_is_evaluate(folder: Path, tmp_path: Path) -> None:
    """Random pictures: nobody tells the shape of a hidden patch, whose variance is 1."""
    path = trained("mae", folder / "pictures", tmp_path / "run")
    run, base = Run.open(path), load(path)
    rows = {row.baseline: row for row in evaluate(run, base)}
    assert rows.keys() == {"bilinear interpolation", "mean of visible pixels"}
    assert rows["bilinear interpolation"].metric.name == "mean squared error of normalised patches"
    assert rows["mean of visible pixels"].other == pytest.approx(1, abs=0.02)
    assert rows["bilinear interpolation"].other > 1


def test_measures_have_names() -> None:
    for measure in all_measures():
        assert measure.targets
        assert all(
            name and not name.startswith(" ") and "(," not in name for name in measure.targets
        )


PROMPTS = {
    "plain": (b"one\ntwo\n", ["one", "two"]),
    "BOM": (b"\xef\xbb\xbfone\ntwo", ["one", "two"]),
    "CRLF": (b"one\r\ntwo\r\n", ["one", "two"]),
    "separators inside": ("a\u2028b\x0bc\x85d\ntwo".encode(), ["a\u2028b\x0bc\x85d", "two"]),
    "blank lines": (b"\n\none\n\n", ["one"]),
    "a blank at the end": (b"one \n", ["one "]),
}


@pytest.mark.parametrize("kind", PROMPTS)
def test_a_file_of_prompts(kind: str, tmp_path: Path) -> None:
    content, prompts = PROMPTS[kind]
    (tmp_path / "p.txt").write_bytes(content)
    assert read_prompts([], tmp_path / "p.txt") == prompts


def test_a_file_of_prompts_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(b"caf\xe9")
    for path in (tmp_path / "p.txt", tmp_path, tmp_path / "no", Path("a\0b")):
        with pytest.raises(DataError, match="cannot be read"):
            read_prompts([], path)


OPTIONS = {
    "no stop": (["--stop", ""], "it is empty"),
    "top-p 0": (["--top-p", "0"], "greater than 0"),
    "top-p 2": (["--top-p", "2"], "less than or equal to 1"),
    "top-k 0": (["--top-k", "0"], "greater than or equal to 1"),
    "temperature": (["--temperature", "nan"], "temperature"),
    "infinite": (["--temperature", "inf"], "temperature"),
    "seed": (["--seed", str(2**70)], "2**63"),
    "max_new_tokens": (["--max-new-tokens", "0"], "greater than or equal to 1"),
    "sound": (["--audio", "x.wav"], "x.wav"),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_options_out_of_range(kind: str, tmp_path: Path) -> None:
    words, message = OPTIONS[kind]
    save(text_base(), tmp_path / "m")
    done = invoke("generate", tmp_path / "m", *words)
    code = getattr(done.exception, "exit_code", done.exit_code)
    assert code in (2, 3)
    assert message in f"{done.output} {done.exception}"


def test_several_continuations_say_of_which_prompt(tmp_path: Path) -> None:
    save(text_base(), tmp_path / "m")
    done = invoke("generate", tmp_path / "m", "--prompt", "the", "--prompt", "a cat")
    assert "1/2  'the'" in done.stderr
    assert "2/2  'a cat'" in done.stderr
    done = invoke("generate", tmp_path / "m", "--prompt", "the")
    assert not done.stderr
