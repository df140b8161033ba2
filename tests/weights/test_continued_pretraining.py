"""Published encoders without a head go on being pretrained here, and leave as what they are."""

from __future__ import annotations

import io
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from rich.console import Console
from tokenizers import Tokenizer, models, pre_tokenizers

from broadbase.core.errors import ConfigError
from broadbase.evaluate.registry import evaluate
from broadbase.modalities.noise import MaskOrSwap
from broadbase.recipes.resolve import resolve
from broadbase.run.run import Run
from broadbase.weights.folder import load
from broadbase.weights.parity import differences

WORDS, TOPICS, POSITIONS = 60, 12, 64  # of the language; of a row
SETTINGS = (
    "train.evaluate_every=1000",
    "train.save_every=1000",
    "machine.device=cpu",
    "machine.precision=fp32",
    "machine.matmul=torch",
    "machine.compile=off",
    "data.holdout=0.2",
    "data.similarity=1.0",
    "data.sources.text.batch_size=8",
    "schedule.warmup=5",
    "optim={name: adamw, lr: 0.003}",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of one topic each, whose few words nothing but the topic tells; and a BertModel,
    untrained, with the tokenizer of all words."""
    folder, rng = tmp_path_factory.mktemp("onward"), random.Random(0)
    (folder / "data").mkdir()
    for i in range(300):
        topic = rng.randrange(TOPICS)
        words = [
            f"w{topic + TOPICS * rng.randrange(WORDS // TOPICS)}" for _ in range(POSITIONS - 2)
        ]
        (folder / "data" / f"{i}.txt").write_text(" ".join(words))
    special = {100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 0: "[PAD]"}
    names = iter(range(120))
    vocabulary = {special.get(i) or f"w{next(names)}": i for i in range(120)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    shape = {"num_attention_heads": 2, "max_position_embeddings": POSITIONS, "vocab_size": 120}
    torch.manual_seed(0)
    hf.BertModel(hf.BertConfig(**sizes, **shape)).save_pretrained(folder / "random")
    tokenizer.save(str(folder / "random" / "tokenizer.json"))
    return folder


def pretrained(place: Path, start: str, out: str, steps: int) -> tuple[Run, float, str]:
    """A run of recipe bert from a folder: its held-out loss in nats, and what it said."""
    changes = [*SETTINGS, f"train.steps={steps}"]
    data, begin = str(place / "data"), str(place / start)
    console = Console(file=io.StringIO(), width=200)
    run = Run.create(resolve("bert", data, 1, changes, init_from=begin), place / out, console)
    output = run.train(console)
    return run, output["text"]["nats_per_token"], console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def seen(place: Path) -> tuple[Run, float, str]:
    """After 400 steps; and `knows`, its BertModel, which has lost the head."""
    result = pretrained(place, "random", "long", 400)
    encoder = hf.BertModel.from_pretrained(place / "long" / "model", add_pooling_layer=False)
    encoder.save_pretrained(place / "knows")
    shutil.copy(place / "random" / "tokenizer.json", place / "knows")
    return result


def test_it_has_the_tokenizer_of_its_start_and_says_what_is_new(
    seen: tuple[Run, float, str], place: Path
) -> None:
    run, _, said = seen
    reference = Tokenizer.from_file(str(place / "random" / "tokenizer.json"))
    text = "w3 w4 w5 nothing"
    assert run.codecs["text"].encode(text).values.tolist() == reference.encode(text).ids
    corrupt = run.config.model.modalities["text"].corruption()
    assert isinstance(corrupt, MaskOrSwap)
    assert f"init_from={place / 'random'}: its base has no spaces.text.bias" in said
    assert "spaces.text.head" in said
    assert (
        run.config.data.sources["text"].sequence_length == POSITIONS
    )  # the recipe's rows are longer
    assert evaluate(run, load(run.folder))


def test_it_leaves_as_bert_with_its_new_head(seen: tuple[Run, float, str]) -> None:
    folder = seen[0].folder / "model"
    opened, report = hf.BertForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert type(hf.AutoModelForMaskedLM.from_pretrained(folder)) is type(opened)
    assert all(row["difference"] < 1e-5 for row in differences(folder))
    assert json.loads((folder / "config.json").read_text())["max_position_embeddings"] == POSITIONS


def test_what_it_knew_is_worth_its_steps(seen: tuple[Run, float, str], place: Path) -> None:
    """As many steps with a new head, from what was pretrained and from nothing."""
    _, before, _ = pretrained(place, "knows", "from-known", 40)
    _, nothing, _ = pretrained(place, "random", "from-random", 40)
    assert seen[1] < before < 0.7 * nothing


def test_a_family_goes_on_as_the_family_it_is(place: Path, tmp_path: Path) -> None:
    """GPT-2 has no way out but its own names; nothing of it is lost."""
    shape = {"n_positions": 64, "n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 120}
    shape |= {"bos_token_id": 101, "eos_token_id": 102}
    hf.GPT2LMHeadModel(hf.GPT2Config(**shape)).save_pretrained(tmp_path / "gpt2")
    shutil.copy(place / "random" / "tokenizer.json", tmp_path / "gpt2")
    changes = [*SETTINGS, "train.steps=3"]
    config = resolve("text", str(place / "data"), 1, changes, init_from=str(tmp_path / "gpt2"))
    run, said = Run.create(config, tmp_path / "run"), io.StringIO()
    run.train(Console(file=said, width=200))
    again, report = hf.GPT2LMHeadModel.from_pretrained(
        run.folder / "model", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert all(row["difference"] < 1e-5 for row in differences(run.folder / "model"))
    assert "its places saw" not in said.getvalue()
    first: Any = load(tmp_path / "gpt2").model.state_dict()
    last = load(run.folder / "model").model.state_dict()
    moved = [name for name in first if not torch.equal(first[name], last[name])]
    assert any(name.startswith("towers") for name in moved)
    assert again.config.n_embd == 32


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        ("t5", [], "recipe 't5' trains tower encoder, decoder, and this base has main for text"),
        (
            "bert",
            ["data.sources.text.sequence_length=70"],
            "text.sequence_length: 70 tokens.*positions for 64",
        ),
        ("bert", ["model.towers.main.width=64"], r"is \[.*\] in its base and \[.*\] here"),
    ],
)
def test_a_recipe_that_does_not_fit_is_reported_why(
    place: Path, tmp_path: Path, recipe: str, changes: list[str], message: str
) -> None:
    def tried() -> None:
        config = resolve(recipe, str(place / "data"), 1, changes, init_from=str(place / "random"))
        Run.create(config, tmp_path / "run").train()

    with pytest.raises(ConfigError, match=message):
        tried()


def test_an_encoder_that_is_trained_causal_is_reported_of(place: Path, tmp_path: Path) -> None:
    changes = [*SETTINGS, "train.steps=2"]
    config = resolve("text", str(place / "data"), 1, changes, init_from=str(place / "random"))
    said = io.StringIO()
    Run.create(config, tmp_path / "run").train(Console(file=said, width=200))
    assert "its base has full attention, and objective 'causal' trains" in said.getvalue()


def test_without_a_start_its_modality_cannot_be_made(place: Path, tmp_path: Path) -> None:
    config = resolve("bert", str(place / "data"), 1, SETTINGS, init_from=str(place / "random"))
    with pytest.raises(ConfigError, match="go on from their folder, --init-from FOLDER"):
        Run.create(config.replace(init_from=None), tmp_path / "run")
