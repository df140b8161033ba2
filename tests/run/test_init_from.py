"""Going on from a base: longer windows, new modalities, new ids; what it was stays to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

import broadbase
from broadbase.core.errors import ConfigError
from broadbase.core.view import Tokens, positions
from broadbase.model.initialise import initialise
from broadbase.nn.rotary import Rotary, RotaryConfig
from broadbase.recipes.resolve import continue_from
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.train.metrics_log import MetricsLog
from broadbase.weights.folder import load
from broadbase.weights.hf_fields import rope
from support.recipes import small

SCALINGS: list[dict[str, Any] | None] = [
    None,
    {"name": "linear", "factor": 4.0},
    {"name": "llama3", "factor": 4.0, "original": 64, "low": 1.0, "high": 4.0},
    {"name": "yarn", "factor": 4.0, "original": 64},
    {"name": "yarn", "factor": 4.0, "original": 64, "truncate": False, "attention": 1.5},
]


@pytest.mark.parametrize("scaling", SCALINGS)
def test_scaled_rotations_past_the_first_length_are_those_of_transformers(
    scaling: dict[str, Any] | None,
) -> None:
    config = RotaryConfig.from_tree({"theta": 5e3, "scaling": scaling})
    module = config.build(64, 2, 32)
    assert isinstance(module, Rotary)
    place = positions((256,))[None]
    cos, sin = module.rotation(Tokens(place))
    ours = cos, sin * torch.tensor([-1, 1]).repeat_interleave(16)  # signed as they are used
    sizes = {"hidden_size": 64, "num_attention_heads": 2, "max_position_embeddings": 256}
    reference = LlamaRotaryEmbedding(LlamaConfig(**sizes, rope_parameters=rope(config)))
    expected = reference(torch.zeros(1, 256, 64), place[..., 0])
    for actual, other in zip(ours, expected, strict=True):
        assert torch.allclose(actual[:, 0], other, atol=1e-5)  # of 255 radians
    if scaling is not None:
        plain = RotaryConfig(theta=5e3).build(64, 2, 32).rotation(Tokens(place))
        assert plain is not None
        assert not torch.allclose(ours[0][:, :, 100:], plain[0][:, :, 100:], atol=1e-2)


@pytest.fixture(scope="module")
def text(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run.create(small("text", corpus), tmp_path_factory.mktemp("start") / "text")
    run.train()
    return run


def begun(config: RunConfig, folder: Path) -> tuple[Run, dict[str, torch.Tensor]]:
    """The run, and its weights before the first step."""
    run = Run.create(config, folder)
    return run, dict(run.trainer(MetricsLog()).model.state_dict())


def far(text: Run, **changes: Any) -> RunConfig:
    """The same run with rows of four times the length, from the base on."""
    tree = text.config.tree() | {"init_from": str(text.folder)} | changes
    source = tree["data"]["sources"]["text"]
    source["sequence_length"] = 4 * source["sequence_length"]
    scaling = {"name": "llama3", "factor": 4.0, "original": source["sequence_length"] // 4}
    tree["model"]["towers"]["main"]["positions"]["scaling"] = scaling
    return RunConfig.from_tree(tree)


def test_a_longer_window_begins_with_the_bases_weights_and_leaves_as_a_llama(
    text: Run, tmp_path: Path
) -> None:
    run, weights = begun(far(text), tmp_path / "far")
    old = load(text.folder).model.state_dict()
    assert weights.keys() == old.keys()
    assert all(torch.equal(weights[name], old[name]) for name in old)
    run.train()
    base = broadbase.load(run.folder / "model")
    expected = AutoModelForCausalLM.from_pretrained(run.folder / "model").eval()
    ids = base.codecs["text"].encode("The licence is long. " * 60).values
    both = torch.from_numpy(np.concatenate([base.codecs["text"].start[None], ids]))[None]
    assert both.shape[1] > text.config.data.sources["text"].sequence_length
    with torch.no_grad():
        logits = expected(both).logits[0]
    actual = base.logits("The licence is long. " * 60)
    assert torch.allclose(actual, logits, atol=1e-4)


def test_the_tokenizer_comes_from_the_base(text: Run, tmp_path: Path) -> None:
    """Other data would make another; an id would then mean two things."""
    (tmp_path / "new").mkdir()
    for i in range(30):
        (tmp_path / "new" / f"{i}.txt").write_text(f"xylophone zebra quiz {i} " * 20)
    tree = text.config.tree() | {"init_from": str(text.folder)}
    tree["data"]["sources"]["text"]["source"]["path"] = str(tmp_path / "new")
    run = Run.create(RunConfig.from_tree(tree), tmp_path / "run")
    sample = run.codecs["text"].encode("xylophone")
    assert sample.values.tolist() == text.codecs["text"].encode("xylophone").values.tolist()
    apart = RunConfig.from_tree(tree | {"init_from": None})
    Run.create(apart, tmp_path / "apart")
    tree["data"]["store"] = str(tmp_path / "apart" / "data")
    with pytest.raises(ConfigError, match="codec of 'text' is not this run's"):
        Run.create(RunConfig.from_tree(tree), tmp_path / "mixed")


def test_a_new_modality_leaves_all_that_was(
    text: Run,
    corpus: Path,
    tmp_path: Path,
) -> None:
    """Codes beside text: old parameters to the bit, new ones as any run would begin with them."""
    alone = small("codes", corpus)
    config = RunConfig.from_tree(continue_from(alone.tree(), str(text.folder)))
    assert list(config.model.modalities) == ["text", "codes"]
    run, weights = begun(config, tmp_path / "both")
    old = load(text.folder)
    for name, value in old.model.state_dict().items():
        assert torch.equal(weights[name], value), name
    fresh = config.model.build()
    initialise(fresh, config.seed)
    new = weights.keys() - old.model.state_dict().keys()
    assert {name.split(".")[1] for name in new} == {"codes"}
    assert all(torch.equal(weights[name], fresh.state_dict()[name]) for name in new)
    run.train()
    both = broadbase.load(run.folder / "model")
    assert list(both.codecs) == ["codes", "text"]
    assert both.generate("The licence", modality="text", max_new_tokens=4) is not None
    before, after = old.model.state_dict(), both.model.state_dict()
    moved = {name for name in before if not torch.equal(after[name], before[name])}
    assert not any(name.startswith("spaces.text") for name in moved)
    assert any(name.startswith("towers") for name in moved)


def test_new_ids_come_after_the_old(text: Run, tmp_path: Path) -> None:
    tree = text.config.tree() | {"init_from": str(text.folder)}
    tree["model"]["modalities"]["text"] |= {"vocab_size": 310, "extra_ids": 3}
    _, weights = begun(RunConfig.from_tree(tree), tmp_path / "run")
    old = load(text.folder).model.state_dict()["spaces.text.embedding.weight"]
    new = weights["spaces.text.embedding.weight"]
    assert len(new) == 313 > len(old)
    assert torch.equal(new[: len(old)], old)
    assert new[len(old) :].std() == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 64}, r"is \[.*\] in its base and \[.*\] here"),
        ({"layers": 0}, "its base has 'towers.main.input_norm.weight'"),
        ({"vocab_size": 290}, "embedding.weight' is"),
    ],
)
def test_what_does_not_fit_is_named(
    text: Run, tmp_path: Path, change: dict[str, int], message: str
) -> None:
    tree = text.config.tree() | {"init_from": str(text.folder)}
    tower = tree["model"]["towers"]["main"]
    if "width" in change:
        tower["width"] = 64
    if "vocab_size" in change:
        tree["model"]["modalities"]["text"] |= change
    if "layers" in change:
        tree["model"]["towers"] = {"other": tower}
        tree["objective"]["tower"] = "other"
    with pytest.raises(ConfigError, match=message):
        begun(RunConfig.from_tree(tree), tmp_path / "run")


def test_a_resumed_run_goes_on_from_itself(text: Run, tmp_path: Path) -> None:
    tree = far(text).tree()
    full = Run.create(RunConfig.from_tree(tree), tmp_path / "whole")
    full.train()
    again = Run.open(tmp_path / "whole")
    again.train()
    weights = load(tmp_path / "whole").model.state_dict()
    assert not torch.equal(
        weights["spaces.text.embedding.weight"],
        load(text.folder).model.state_dict()["spaces.text.embedding.weight"],
    )
