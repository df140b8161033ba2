"""What leaves here opens in transformers with one line, and computes what it computed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers as hf

from broadbase.weights.folder import load, save
from support.references import FAMILIES, LLAVA, saved

AUTO = {
    "WhisperForConditionalGeneration": hf.AutoModelForSpeechSeq2Seq,
    "LlavaForConditionalGeneration": hf.AutoModelForImageTextToText,
    "ForCausalLM": hf.AutoModelForCausalLM,
    "LMHeadModel": hf.AutoModelForCausalLM,
    "ForMaskedLM": hf.AutoModelForMaskedLM,
    "ForPreTraining": hf.AutoModelForPreTraining,
    "ForConditionalGeneration": hf.AutoModelForSeq2SeqLM,
    "ForImageClassification": hf.AutoModelForImageClassification,
    "ForMaskedImageModeling": hf.BeitForMaskedImageModeling,  # no line for all opens it
    "Model": hf.AutoModel,
}


@pytest.mark.parametrize("name", [*FAMILIES, *LLAVA])
def test_one_line_opens_what_is_exported(name: str, tmp_path: Path) -> None:
    """After one step of training: every number of ours is in their model, and none is missing."""
    reference = saved((FAMILIES | LLAVA)[name], tmp_path / "theirs")
    base = load(tmp_path / "theirs")
    with torch.no_grad():
        for parameter in base.model.parameters():
            parameter.mul_(1.01)
    save(base, tmp_path / "ours")
    kind = type(reference).__name__
    auto = next(auto for end, auto in AUTO.items() if kind.endswith(end))
    opened, report = auto.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert type(opened) is type(reference)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    result = opened.state_dict()
    scaled = [k for k, v in reference.state_dict().items() if torch.equal(result[k], v * 1.01)]
    kept = [k for k, v in reference.state_dict().items() if torch.equal(result[k], v)]
    assert {*scaled, *kept} == {*reference.state_dict()}
    assert len(scaled) > 0.5 * len(result)  # LLaVA has layers that nobody uses
