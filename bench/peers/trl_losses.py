"""The losses of trl on one batch, in its environment; prints one JSON line, the loss by name.

trl_losses.py MODEL REFERENCE BATCH

MODEL and REFERENCE are folders of transformers. BATCH has pairs of `prompt`, `chosen`, `rejected`,
each a list of ids, and the settings of each loss. DPO, IPO and KTO are computed by trl's trainers
from the ids; ORPO and SimPO by the functions of its experimental trainers from the logits.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

TEXT = {"prompt": ["a", "a"], "chosen": ["b", "b"], "rejected": ["c", "c"]}  # that no loss reads
UNPAIRED = {"prompt": ["a", "a"], "completion": ["b", "c"], "label": [True, False]}


def loaded(folder: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def by_trainer(
    folder: str, reference: str, pairs: Any, settings: Any, out: str
) -> dict[str, float]:
    """The losses that trainers compute: the mean over pairs."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    common = {"output_dir": out, "report_to": "none", "use_cpu": True, "bf16": False}
    paired = [{f"{k}_ids": pair[k] for k in ("prompt", "chosen", "rejected")} for pair in pairs]
    losses = {}
    for name, kind, beta in (
        ("dpo", "sigmoid", settings["dpo"]["beta"]),
        ("ipo", "ipo", settings["ipo"]["tau"]),
    ):
        trainer = DPOTrainer(
            model=loaded(folder),
            ref_model=loaded(reference),
            args=DPOConfig(loss_type=[kind], beta=beta, **common),
            train_dataset=Dataset.from_dict(TEXT),
            processing_class=tokenizer,
        )
        trainer.model.eval()
        batch = DataCollatorForPreference(pad_token_id=tokenizer.pad_token_id)(paired)
        losses[name] = float(trainer.compute_loss(trainer.model, batch))
    trainer = KTOTrainer(
        model=loaded(folder),
        ref_model=loaded(reference),
        args=KTOConfig(beta=settings["kto"]["beta"], **common),
        train_dataset=Dataset.from_dict(UNPAIRED),
        processing_class=tokenizer,
    )
    trainer.model.eval()
    rows = [
        {
            "prompt_ids": pair["prompt"],
            "completion_ids": pair[side],
            "KL_completion_ids": pairs[(i + 1) % len(pairs)]["chosen"],
            "label": side == "chosen",
        }
        for side in ("chosen", "rejected")
        for i, pair in enumerate(pairs)
    ]
    batch = DataCollatorForUnpairedPreference(pad_token_id=tokenizer.pad_token_id)(rows)
    losses["kto"] = 2 * float(trainer.compute_loss(trainer.model, batch))  # of both sides
    return losses


@torch.no_grad()
def by_function(folder: str, pairs: Any, settings: Any) -> dict[str, float]:
    """The losses that functions compute from log-likelihoods a token."""
    model = loaded(folder)
    means: dict[str, list[torch.Tensor]] = {"chosen": [], "rejected": []}
    nats, tokens = 0.0, 0
    for pair in pairs:
        for side, kept in means.items():
            ids = torch.tensor([pair["prompt"] + pair[side]])
            labels = ids.clone()
            labels[0, : len(pair["prompt"])] = -100
            logits = model(ids).logits
            kept.append(CPOTrainer.get_batch_logps(logits, labels.clone(), average_log_prob=True))
            if side == "chosen":
                count = len(pair[side])
                nats, tokens = nats - float(kept[-1]) * count, tokens + count
    chosen, rejected = (torch.cat(kept) for kept in means.values())
    machine = SimpleNamespace(device="cpu")
    orpo = SimpleNamespace(beta=settings["orpo"]["weight"], accelerator=machine)
    simpo = SimpleNamespace(
        beta=settings["simpo"]["beta"],
        simpo_gamma=settings["simpo"]["gamma"],
        loss_type="simpo",
        label_smoothing=0.0,
        alpha=0.0,
        accelerator=machine,
    )
    odds = ORPOTrainer.odds_ratio_loss(orpo, chosen, rejected)[0].mean()
    return {
        "orpo": nats / tokens - float(odds),
        "simpo": float(CPOTrainer.cpo_loss(simpo, chosen, rejected)[0].mean()),
    }


def main() -> None:
    folder, reference, file = sys.argv[1:]
    given = json.loads(Path(file).read_text())
    with tempfile.TemporaryDirectory() as out:
        losses = by_trainer(folder, reference, given["pairs"], given["settings"], out)
    losses |= by_function(folder, given["pairs"], given["settings"])
    print(json.dumps(losses))


if __name__ == "__main__":
    main()
