"""Recipes made small, and a corpus of every kind of data for them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image
from sklearn.datasets import load_digits

from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from support.cells import cells_file
from support.chats import chats, json_lines, preferences
from support.paths import ROOT
from support.videos import film, moving

OWN_DATA = {"mixed"}  # recipes that take no --data
CHATS = {"chat": "chats.jsonl", "preference": "pairs.jsonl", "reward": "pairs.jsonl"}


def resolved(name: str, depth: int, data: Path) -> RunConfig:
    return find_recipe(name).build(depth, None if name in OWN_DATA else str(data))


def write_corpus(folder: Path) -> Path:
    """Write the licence as text, code and residues, digits, chirps, cells and chains of carbon."""
    for i, paragraph in enumerate((ROOT / "LICENSE").read_text().split("\n\n")):
        if paragraph.strip():
            (folder / f"{i:03d}.txt").write_text(paragraph)
            (folder / f"{i:03d}.py").write_text(paragraph)
            (folder / f"{i:03d}.fa").write_text(f">{i}\n" + re.sub("[^A-Z]", "", paragraph.upper()))
    chains = ("C" * i + tail for i in range(1, 9) for tail in ("O", "N", "Cl", "c1ccccc1", "C=O"))
    (folder / "chains.smi").write_text("\n".join(chains))
    film(folder / "square.mkv", moving(400))
    counts = np.random.default_rng(0).poisson([0.5, 3, 1] * 8, (60, 24)).astype(np.float32)
    cells_file(folder / "cells.h5ad", counts, [f"GENE{i}" for i in range(24)])
    for i in range(12):  # chirps
        time = np.arange(24_000) / 16_000
        chirp = 0.3 * np.sin(2 * np.pi * (200 + 60 * i) * time * (1 + time))
        soundfile.write(folder / f"{i:03d}.wav", chirp, 16_000)
    for i, image in enumerate(load_digits().images[:40]):
        Image.fromarray((image * 15).astype("uint8")).save(folder / f"{i:03d}.png")
    return folder


def small(name: str, corpus: Path) -> RunConfig:
    """The recipe at depth 1 on the small corpus, 20 steps of few and short rows, 200 molecules."""
    data = corpus if name not in CHATS else chat_folder(corpus) / CHATS[name]
    tree: dict[str, Any] = resolved(name, 1, data).tree()
    tree["train"] |= {"steps": 20, "evaluate_every": 20, "save_every": 20, "samples": 0}
    tree["machine"] = {"device": "cpu", "precision": "fp32", "matmul": "torch", "compile": "off"}
    tree["data"]["holdout"] = 0.2
    # at the full rate the rounding of another processor gives pictures of vq other codes
    tree["schedule"]["warmup"] = 40 if name == "vq" else 2
    for settings in tree["model"]["modalities"].values():
        text = settings.get("by", settings)
        if "vocab_size" in text:
            text["vocab_size"] = 300
        if "tokenizer" in settings:
            settings["tokenizer"] = str(corpus_tokenizer(corpus))
    for settings in tree["model"]["heads"].values():
        if "grace" in settings:
            settings["grace"] = 1.0  # four pictures a step may get one answer
    for source in tree["data"]["sources"].values():
        source["batch_size"] = 4
        if source["source"]["name"] in ("passages", "standard_library"):
            source["source"] = {"name": "text_files", "path": str(corpus)}
            source["sequence_length"] = 32
        if "limit" in source["source"]:
            source["source"]["limit"] = 200
    return RunConfig.from_tree(tree)


def chat_folder(corpus: Path) -> Path:
    """Conversations and preferences, in a folder of their own: other recipes read all tables."""
    folder = corpus.parent / f"{corpus.name}-chats"
    if not folder.exists():
        folder.mkdir()
        json_lines(folder / "chats.jsonl", [{"messages": each} for each in chats()])
        json_lines(folder / "pairs.jsonl", preferences())
    return folder


def corpus_tokenizer(corpus: Path) -> Path:
    """The vq recipe, trained on the small corpus once.

    It takes 2 steps: after 20 the rounding of another processor gives pictures other codes.
    """
    folder = corpus.parent / f"{corpus.name}-vq"
    if not folder.exists():
        config = small("vq", corpus)
        train = config.train.replace(steps=2, evaluate_every=2, save_every=2)
        Run.create(config.replace(train=train), folder).train()
    return folder
