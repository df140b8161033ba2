"""A published family that the package does not know comes from outside, in one file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from support.programs import run

FAMILY = '''
"""A family with Llama's layers under another name."""
from broadbase.weights.families import llama

MODEL_TYPE = "alpaca"
read = llama.read
'''
LOADED = """
import sys, torch, broadbase
base = broadbase.load(sys.argv[1])
torch.save(base.logits([1, 2, 3]), sys.argv[2])
"""


def test_a_family_from_one_file_loads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(tmp_path / "alpaca")
    tree = json.loads((tmp_path / "alpaca" / "config.json").read_text())
    (tmp_path / "alpaca" / "config.json").write_text(json.dumps({**tree, "model_type": "alpaca"}))
    (tmp_path / "alpaca_family.py").write_text(FAMILY)
    for plugins, code in (("", 1), ("alpaca_family", 0)):
        environment = {**os.environ, "BROADBASE_PLUGINS": plugins}
        done = run(LOADED, "alpaca", "logits.pt", cwd=tmp_path, env=environment)
        assert done.returncode == code, done.stderr
    logits = torch.load(tmp_path / "logits.pt")
    with torch.no_grad():
        expected = model(torch.tensor([[1, 1, 2, 3]])).logits[0]
    torch.testing.assert_close(logits, expected[-len(logits) :], rtol=1e-4, atol=1e-4)
