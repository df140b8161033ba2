"""How a base is used: kept by its folder, common to several objectives, open to other solvers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
import yaml
from torch import Tensor

from broadbase.core.contracts import ObjectiveConfig
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.usage import DataFacts, GeneratorConfig
from broadbase.core.view import Segment, View, positions
from broadbase.inference.conditioning import EncoderConditioningConfig, with_last
from broadbase.inference.request import GenerateRequest, Prompt, combine
from broadbase.inference.usages import plain_usage
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load, save
from support.bases import mixed_base, text_base
from support.paths import GOLDEN
from support.segments import packed

FACTS = DataFacts(
    modalities={"a": "bytes", "b": "image"},
    grids={"image": (4, 4)},
    sentinels={"bytes": range(258, 260), "image": range(0)},
)
PREFIX = {"name": "prefix_conditional", "source": "a", "target": "b"}


class ConstantConfig(GeneratorConfig):
    """A solver from outside that makes all values at once."""

    name: Literal["test-constant"] = "test-constant"
    attention: ClassVar[str] = "full"
    value: float = 0.5
    """Every number that is generated."""

    def values(
        self, model: Any, view: View, positions: Iterable[Tensor], sample: Callable[..., Tensor]
    ) -> Iterator[Tensor]:
        begun = view.streams[-1].segments[-1].values
        assert begun is not None
        yield torch.full((len(begun), len(list(positions)), *begun.shape[2:]), self.value)


def usage(**fields: Any) -> Any:
    return ObjectiveConfig.from_tree(fields).usage(FACTS)


def test_another_solver_is_one_class(tmp_path: Path) -> None:
    base = mixed_base()
    full = plain_usage("full").replace(
        generator=ConstantConfig(value=0.25), grids={"image": (2, 2)}
    )
    save(replace(base, usage=full), tmp_path / "m")
    again = load(tmp_path / "m")
    assert again.usage == full
    assert (again.generate(modality="image") == 0.25).all()
    with pytest.raises(ConfigError, match="leave out --prompt"):
        again.generate(torch.zeros(4, 4, 1).numpy(), modality="image")


def test_objectives_say_how_their_base_is_used() -> None:
    assert usage(name="causal") == plain_usage("causal", facts=FACTS)
    assert usage(name="masked").generator is None
    prefix = usage(**PREFIX)
    assert (prefix.conditioning.source, prefix.conditioning.target) == ("bytes", "image")
    assert prefix.grids == {"image": (4, 4)}
    assert usage(name="span_corruption").conditioning.sentinels == {"bytes": 258}


def test_a_mixture_is_used_as_its_parts_are_if_they_agree() -> None:
    def mixed(*objectives: dict[str, Any]) -> Any:
        components = {str(i): {"objective": each} for i, each in enumerate(objectives)}
        return usage(name="mixture", components=components)

    assert mixed(PREFIX, PREFIX) == usage(**PREFIX)
    assert mixed({"name": "causal"}, PREFIX) == usage(name="causal")
    assert mixed({"name": "causal"}, {"name": "masked"}).generator is None


def test_one_more_token_after_each_row() -> None:
    segment = packed([[2], [4], [3]], 4)
    longer = with_last(segment, 99)
    assert longer.document is not None
    lengths = [2, 4, 3]
    for row, n in enumerate(lengths):
        assert longer.values[row, :n].equal(segment.values[row, :n])  # type: ignore[index]
        assert longer.values[row, n] == 99
        assert longer.document[row].tolist() == [0] * (n + 1) + [-1] * (4 - n)
        assert longer.position[row, : n + 1].equal(positions((n + 1,)))
    line = Segment("bytes", torch.tensor([[1, 2]]), positions((2,))[None])
    assert with_last(line, 3).values.tolist() == [[1, 2, 3]]  # type: ignore[union-attr]


def test_prompts_of_values_and_attachments() -> None:
    plain = plain_usage("causal")
    given = plain.replace(conditioning=EncoderConditioningConfig())
    assert combine([], [], plain) == (Prompt(),)
    assert combine(["a", "b"], ["x", "y"], plain) == tuple(
        Prompt(value=value, attachments=("x", "y")) for value in "ab"
    )
    assert combine([], ["x", "y"], given) == tuple(Prompt(attachments=(one,)) for one in "xy")
    assert combine(["a"], ["x"], given) == (Prompt(value="a", attachments=("x",)),)
    with pytest.raises(ConfigError, match="one at a time"):
        combine(["a"], ["x", "y"], given)


def test_a_request_is_what_keywords_say() -> None:
    base = text_base()
    request = GenerateRequest(prompts=(Prompt(value="the"),), max_new_tokens=9, stop=("e",))
    assert base.generate_request(request) == [base.generate("the", max_new_tokens=9, stop=["e"])]


def test_a_run_of_an_older_version_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for written in ("", "format: 1\n"):
        (run / "config.yaml").write_text(f"{written}recipe: bytes\nobjective: {{tower: main}}\n")
        with pytest.raises(DataError, match=r"run was written by an older .*\(format 1\); train"):
            Run.open(run)
    (run / "config.yaml").write_text("format: 99\nrecipe: bytes\n")
    with pytest.raises(DataError, match="newer version of Broadbase"):
        Run.open(run)


def test_a_model_folder_of_an_older_version_is_refused(tmp_path: Path) -> None:
    save(text_base(), tmp_path / "m")
    tree = json.loads((tmp_path / "m" / "config.json").read_text())
    tree["broadbase"] = {"format": 1, "pattern": "causal", "patterns": {}, "model": {}}
    (tmp_path / "m" / "config.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"m was written by an older .*\(format 1\); train it agai"):
        load(tmp_path / "m")


def test_the_config_of_a_run_can_be_repeated(tmp_path: Path) -> None:
    golden = sorted(GOLDEN.glob("bytes.yaml"))
    config = RunConfig.from_tree(yaml.safe_load(golden[0].read_text()))
    config.save(tmp_path)
    assert RunConfig.read(tmp_path / "config.yaml") == config == RunConfig.of_run(tmp_path)
    assert (tmp_path / "config.yaml").read_text().startswith("format: 2\n")
