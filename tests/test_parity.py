"""The backbone is right, by independent implementations: random references of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from broadbase.core.view import Read, Segment, Stream, View, positions
from broadbase.model.base import Base
from broadbase.model.generate import SamplingConfig, generate
from broadbase.weights.architecture import published
from broadbase.weights.folder import load

PLACES, VOCABULARY = 24, 97


def llama(**more: Any) -> LlamaForCausalLM:
    scaled = {
        "rope_type": "llama3",
        "rope_theta": 5e4,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=48,
            intermediate_size=80,
            num_hidden_layers=3,
            num_attention_heads=6,
            num_key_value_heads=2,
            head_dim=16,
            max_position_embeddings=128,
            rope_parameters=scaled,
            initializer_range=0.2,
            bos_token_id=1,
            eos_token_id=None,
            **more,
        )
    )


def gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=128,
            n_embd=48,
            n_layer=3,
            n_head=4,
            initializer_range=0.2,
            bos_token_id=1,
            eos_token_id=None,
        )
    )


def bert() -> BertForMaskedLM:
    return BertForMaskedLM(
        BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=96,
            max_position_embeddings=64,
            initializer_range=0.2,
        )
    )


REFERENCES = {
    "llama": llama,
    "llama tied": lambda: llama(tie_word_embeddings=True),
    "llama biased": lambda: llama(attention_bias=True, mlp_bias=True),
    "gpt2": gpt2,
    "bert": bert,
}


@pytest.fixture(params=REFERENCES)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Base]:
    """A reference and what our loader makes of its folder."""
    torch.manual_seed(0)
    reference = REFERENCES[request.param]().eval()
    with torch.no_grad():  # gains and biases away from 1 and 0, so that a swap would show
        for parameter in reference.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    reference.save_pretrained(tmp_path)
    return reference, load(tmp_path)


def ids(rows: int = 3, places: int = PLACES) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (rows, places), generator=torch.manual_seed(1))


def segment(values: torch.Tensor, **more: Any) -> Segment:
    place = positions((values.shape[1],)).expand(len(values), -1, -1)
    return Segment("text", values, place, **more)


def logits(base: Base, given: Segment) -> torch.Tensor:
    view = View((Stream("main", "main", (given,), base.pattern, reads=(Read("text", "x"),)),))
    return base.model(view).predictions["x"]


def test_logits(pair: tuple[Any, Base]) -> None:
    reference, base = pair
    with torch.no_grad():
        theirs, ours = reference(ids()).logits, logits(base, segment(ids()))
    assert theirs.std() > 0.3
    assert (theirs - ours).abs().max() <= 1e-5 * max(1.0, float(theirs.abs().max()))


def test_gradients(pair: tuple[Any, Base]) -> None:
    """Of the mean cross-entropy, for every parameter that the mapping names."""
    reference, base = pair
    target = ids().roll(-1, 1)
    F.cross_entropy(reference(ids()).logits.flatten(0, 1), target.flatten()).backward()
    score = View(
        (
            Stream(
                "main",
                "main",
                (segment(ids()),),
                base.pattern,
                reads=(Read("text", "x", values=target),),
            ),
        )
    )
    base.model(score).scores["x"].mean().backward()
    ours = dict(base.model.named_parameters())
    theirs = dict(reference.named_parameters())
    for link in published(reference.config.to_dict()).links:
        expected = theirs[link.theirs].grad
        expected = expected.T if link.transposed else expected
        expected = expected if link.part is None else expected[slice(*link.part)]
        found = ours[link.ours].grad
        assert found is not None, link.ours
        worst = (found - expected).abs().max()
        assert worst <= 1e-4 * max(1.0, float(expected.abs().max())), link.ours


@pytest.mark.parametrize("name", ["llama", "llama tied", "gpt2"])
def test_cached_greedy_generation(name: str, tmp_path: Path) -> None:
    """64 steps, the same ids as transformers and as a full forward at every step."""
    torch.manual_seed(0)
    reference = REFERENCES[name]().eval()
    reference.save_pretrained(tmp_path)
    base = load(tmp_path)
    prompt = ids(rows=2, places=5)
    theirs = reference.generate(prompt, max_new_tokens=64, do_sample=False)[:, 5:]
    choose = SamplingConfig(temperature=0).build()
    following = positions((69,))[5:]
    ours = torch.cat(list(generate(base.model, segment(prompt), following, choose)), dim=1)
    assert len(ours.unique()) > 5
    assert torch.equal(ours, theirs)
    whole = prompt
    with torch.no_grad():
        for _ in range(64):
            whole = torch.cat([whole, logits(base, segment(whole))[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(ours, whole[:, 5:])


def test_bert_with_parts_and_padding(tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = bert().eval()
    reference.save_pretrained(tmp_path)
    base = load(tmp_path)
    part = (torch.arange(PLACES) > 9).long().expand(3, -1)
    real = torch.arange(PLACES) < torch.tensor([[24], [17], [11]])
    given = segment(
        ids(),
        part=part,
        document=torch.where(real, 0, -1),
        order=torch.arange(PLACES).expand(3, -1),
    )
    with torch.no_grad():
        theirs = reference(ids(), attention_mask=real.long(), token_type_ids=part).logits
        ours = logits(base, given)
    assert (theirs - ours)[real].abs().max() <= 1e-5 * float(theirs.abs().max())
