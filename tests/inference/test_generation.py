"""Generation: several requests at once, weights laid out or in 8 bits, the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from broadbase.commands.app import app
from broadbase.core.codec import Codec, Sample
from broadbase.core.errors import ConfigError
from broadbase.core.view import positions
from broadbase.inference.autoregressive import SamplingConfig, generate
from broadbase.inference.documents import prompts
from broadbase.inference.linear import (
    FastRMSNorm,
    Int8Linear,
    PackedLinear,
    eight_bit,
    packed,
    weight_levels,
)
from broadbase.model.initialise import initialise
from broadbase.nn.connector import Linear
from broadbase.nn.fused import FusedLinears
from broadbase.nn.norm import RMSNorm, RMSNormConfig
from broadbase.weights.folder import load, save
from support.bases import text_base
from support.references import DECODERS, Forced, saved

PROMPTS = ["the", "", "the cat sat on the mat", None, "a cat"]
DRAWN = SamplingConfig(temperature=1.0, top_k=50, seed=5)
GREEDY = SamplingConfig(temperature=0)


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_requests_side_by_side_are_as_alone(sampling: SamplingConfig) -> None:
    """Each continuation of a batch of other lengths is that of its request by itself."""
    base = text_base()
    together = base.generate_batch(PROMPTS, max_new_tokens=24, sampling=sampling)
    assert together == base.generate_batch(PROMPTS, max_new_tokens=24, sampling=sampling, batch=2)
    for i, prompt in enumerate(PROMPTS):
        seed = sampling.seed + 1_000_003 * i
        alone = sampling.replace(seed=seed)
        assert base.generate(prompt, max_new_tokens=24, sampling=alone) == together[i], i
    assert len(set(together)) > 1


def test_every_request_stops_by_itself() -> None:
    base = text_base()
    free = base.generate_batch(PROMPTS, max_new_tokens=24, sampling=DRAWN)
    mark = next(c for c in free[0][len(free[0]) // 2 :] if c.isascii())
    result = base.generate_batch(PROMPTS, max_new_tokens=24, sampling=DRAWN, stop=[mark])
    assert result == [text.split(mark)[0] for text in free]
    assert result[0] != free[0]


@pytest.mark.parametrize("name", DECODERS)
def test_padded_rows_are_reported_as_alone(name: str, tmp_path: Path) -> None:
    """Windows, learned places, caps, sinks, experts: the logits of 12 steps after every row."""
    saved(DECODERS[name], tmp_path)
    base = load(tmp_path)
    rows = torch.randint(4, 90, (3, 12), generator=torch.manual_seed(2))
    lengths, forced = [9, 2, 5], rows.clone()
    real = torch.arange(9) < torch.tensor(lengths).unsqueeze(1)
    given = prompts("text", Ids(), [row[:n].numpy() for row, n in zip(rows, lengths, strict=True)])
    assert given.document is not None
    assert torch.equal(given.document >= 0, torch.cat([real[:, :1], real], dim=1)[:, : 1 + 9])
    after = torch.stack([positions((40,))[n + 1 : n + 13] for n in lengths], dim=1)
    together = Forced(forced)
    list(generate(base.model, given, after, together))
    for i, n in enumerate(lengths):
        one = prompts("text", Ids(), [rows[i, :n].numpy()])
        apart = Forced(forced[i : i + 1])
        list(generate(base.model, one, after[:, i], apart))
        a, b = torch.cat(together.seen, dim=1)[i], torch.cat(apart.seen, dim=1)[0]
        assert (a - b).abs().max() <= 1e-5 * max(1.0, float(b.abs().max())), i


class Ids(Codec):
    """Ids as they are, after a start."""

    unit, start = "id", np.array(3)

    def encode(self, raw: Any) -> Sample:
        return Sample(raw, (len(raw),), len(raw))

    def decode(self, values: Any, grid: tuple[int, ...]) -> Any:
        return values

    def save(self, folder: Path) -> None:
        """Nothing to keep."""


def test_packed_maps_are_made_once_and_follow_their_weights() -> None:
    model = text_base().model
    first = packed(model)
    maps = [m for m in first.modules() if isinstance(m, PackedLinear)]
    saved = sum(len(m.fused_names) - 1 for m in model.modules() if isinstance(m, FusedLinears))
    plain = sum(isinstance(m, nn.Linear) for m in model.modules()) + 1  # the tied output
    assert len(maps) == plain - saved < plain
    assert packed(model) is first
    assert packed(model, 64) is packed(model, 64) is not first
    with torch.no_grad():
        next(m for m in model.modules() if type(m) is nn.Linear).weight.add_(1.0)
    assert packed(model) is not first
    assert not any(isinstance(m, PackedLinear) for m in model.modules())
    assert packed(model.to(torch.float64)) is model


def test_a_connector_stays_one() -> None:
    """It is a linear map, and is asked for more."""
    made = packed(nn.ModuleList([nn.Linear(4, 4), Linear(4, 4)]))
    assert [type(m) for m in made] == [PackedLinear, Linear]


def test_generation_follows_training() -> None:
    base = text_base()
    before = base.generate("the", sampling=GREEDY)
    initialise(base.model, 7)
    assert base.generate("the", sampling=GREEDY) != before


def test_a_norm_for_use() -> None:
    torch.manual_seed(0)
    norm = RMSNormConfig(eps=1e-5).build(48)
    assert isinstance(norm, RMSNorm)
    nn.init.normal_(norm.weight)
    x = torch.randn(3, 4, 48) * torch.tensor([0.0, 1e-6, 1.0, 1e4])[:, None]
    exact = nn.functional.rms_norm(x.double(), (48,), norm.weight.double(), 1e-5)
    with torch.no_grad():
        assert torch.allclose(FastRMSNorm(norm)(x).double(), exact, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("bias", [True, False])
def test_an_eight_bit_map(bias: bool) -> None:
    """It is the product of rounded numbers, and a row is what it is alone."""
    torch.manual_seed(0)
    linear, x = nn.Linear(70, 30, bias=bias), torch.randn(2, 5, 70)
    with torch.no_grad():
        x[0, 0], linear.weight[3] = 0, 0
        result = Int8Linear(linear)(x)
        close = rounded(x) @ rounded(linear.weight, weight_levels()).T + (
            linear.bias if bias else 0
        )
        assert torch.allclose(result, close, atol=1e-5)
        assert torch.equal(result[1:, 2:3], Int8Linear(linear)(x[1:, 2:3]))
        assert 1e-4 < (result - linear(x)).norm() / linear(x).norm() < 0.02


def rounded(x: Tensor, levels: int = 127) -> Tensor:
    """Each row to whole multiples of its largest magnitude / `levels`."""
    step = x.abs().amax(dim=-1, keepdim=True).clamp(min=1e-12) / levels
    return (x / step).round() * step


def test_the_largest_sums_are_not_cut_off() -> None:
    """Without VNNI a processor adds pairs of products in 16 bits, which weights of 127 overflow."""
    linear = nn.Linear(64, 2, bias=False)
    nn.init.ones_(linear.weight)
    with torch.no_grad():
        assert Int8Linear(linear)(torch.ones(1, 64))[0].tolist() == pytest.approx([64, 64])


def test_an_eight_bit_base(tmp_path: Path) -> None:
    base = text_base()
    small = base.eight_bit()
    assert any(isinstance(m, Int8Linear) for m in small.model.modules())
    assert not any(type(m) is nn.Linear for m in small.model.modules())
    a, b = base.logits("the cat sat"), small.logits("the cat sat")
    assert 0 < (a - b).norm() / a.norm() < 0.05
    x, target = torch.randn(1, 3, small.config.towers["main"].width), torch.tensor([[3, 9, 20]])
    space = small.model.spaces["text"]
    with torch.no_grad():
        scores, logits = space.score(x, target)[0], space.predict(x)
    assert torch.allclose(scores, -logits.log_softmax(-1).gather(-1, target[..., None])[..., 0])
    assert isinstance(small.generate("the", max_new_tokens=5), str)
    assert small.embed(["the cat"]).shape == base.embed(["the cat"]).shape
    with pytest.raises(ConfigError, match="save the base that they were made of"):
        save(small, tmp_path / "m")
    assert not (tmp_path / "m").exists()
    assert torch.equal(base.logits("the cat sat"), a)


def test_eight_bits_are_for_cpus() -> None:
    with pytest.raises(ConfigError, match="on CPUs only"):
        eight_bit(nn.Linear(3, 3, device="meta"))


def test_prompts_from_the_shell(tmp_path: Path) -> None:
    base, run = text_base(), CliRunner()
    save(base, tmp_path / "m")
    (tmp_path / "prompts.txt").write_text("the\na cat\n")
    command = [
        "generate",
        str(tmp_path / "m"),
        "--max-new-tokens",
        "6",
        "--temperature",
        "0",
        "--json",
    ]
    reported = lines(run, [*command, "--prompts", str(tmp_path / "prompts.txt")])
    assert [row["prompt"] for row in reported] == ["the", "a cat"]
    expected = base.generate_batch(["the", "a cat"], max_new_tokens=6, sampling=GREEDY)
    assert [row["continuation"] for row in reported] == expected
    assert lines(run, [*command, "--prompt", "the", "--prompt", "a cat"]) == reported
    assert len(lines(run, [*command, "--prompt", "the", "--weights", "int8"])) == 1
    for file, message in (("none.txt", "none.txt"), ("empty.txt", "holds no prompt")):
        (tmp_path / "empty.txt").write_text("\n")
        done = run.invoke(app, [*command, "--prompts", str(tmp_path / file)])
        assert done.exit_code != 0
        assert message in str(done.exception)


def lines(run: CliRunner, command: list[str]) -> list[dict[str, Any]]:
    done = run.invoke(app, command)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]
