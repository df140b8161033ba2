"""A trained tokenizer: the model folder of an autoencoder whose connector is quantised.

Legend: N tokens, C codebooks.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from broadbase.core.errors import DataError
from broadbase.core.files import read_json
from broadbase.core.view import Segment, Stream, Tokens, View, positions
from broadbase.model.model import ModelConfig
from broadbase.nn.vector_quantizer import VectorQuantizerConfig


class Tokenizer:
    """Turns raw records into ids and back; DataError where the folder holds no tokenizer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder = folder / "model" if (folder / "model").is_dir() else folder
        try:
            self._read(read_json(folder / "config.json")["broadbase"])
        except (LookupError, OSError, RuntimeError, TypeError, ValueError, SafetensorError) as bad:
            reason = " ".join(str(bad).split())[:300]
            raise DataError(
                f"{folder} holds no tokenizer ({reason}); give the folder of a run of recipe vq"
            ) from None
        self.model.eval()

    def _read(self, settings: Any) -> None:
        config = ModelConfig.from_tree(settings["model"])
        quantised = [c for c in config.connectors if isinstance(c, VectorQuantizerConfig)]
        if not quantised or len(settings["codecs"]) != 1:
            raise DataError(
                f"{self.folder} is no tokenizer: it has {len(quantised)} quantised connectors and"
                f" {len(settings['codecs'])} codecs; give the folder of a run of recipe vq"
            )
        self.config = quantised[0]
        self.space = settings["codecs"][0]
        self.target = next(k for k, tower in config.tower_of.items() if tower == self.config.target)
        self.codec = config.modalities[self.space].load(self.folder)
        self.model = config.build()
        self.model.load_state_dict(load_file(self.folder / "model.safetensors"))
        self.quantised: Any = self.model.connectors[f"{self.config.source}>{self.config.target}"]

    @torch.inference_mode()
    def encode(self, raw: Any) -> tuple[NDArray[np.int64], tuple[int, ...]]:
        """Return the ids [N,C] of a record and its grid; ValueError where the codec refuses it."""
        sample = self.codec.encode(raw)
        values = torch.from_numpy(sample.values)[None]
        segment = Segment(self.space, values, 1 + positions(sample.grid)[None])
        view = View((Stream("encoder", self.config.source, (segment,)),))
        states = self.model(view).streams["encoder"].x
        ids: NDArray[np.int64] = self.quantised.encode(states)[0].numpy()
        return ids, sample.grid

    @torch.inference_mode()
    def decode(self, ids: NDArray[Any], grid: tuple[int, ...]) -> Any:
        """Return the record that the decoder predicts from ids [N,C]."""
        tower, head = self.model.towers[self.config.target], self.model.head(self.target)
        x = self.quantised.decode(torch.from_numpy(np.asarray(ids, np.int64))[None])
        hidden = tower(x, Tokens(1 + positions(grid)[None]), "full")
        values = head.sample(head.predict(hidden.x), lambda logits: logits.argmax(dim=-1))
        return self.codec.decode(values[0].numpy(), grid)

    def save(self, folder: Path) -> None:
        """Copy the model folder to `folder`."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
