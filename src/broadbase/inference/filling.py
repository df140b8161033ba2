"""Gaps in a record, filled by a base that learned to predict masked tokens.

Legend: N tokens, G gaps, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from broadbase.core.codec import Codec
from broadbase.core.errors import ConfigError
from broadbase.core.view import Predict, Segment
from broadbase.inference.documents import closing, opening, unreadable
from broadbase.inference.reader import Reader
from broadbase.inference.streaming import ALTERNATIVES, Guess, token_text

GAP = "[MASK]"


@dataclass(frozen=True, repr=False)
class Filling(Reader):
    """What a base puts into the gaps of a record."""

    @torch.inference_mode()
    def fill(
        self, text: str, *, modality: str | None = None, most: int = ALTERNATIVES
    ) -> list[list[Guess]]:
        """Return the likeliest tokens for each [MASK] of a text, one token each.

        The text between gaps is read as it stands. ConfigError where there is no gap, where the
        base's attention is not full, or where its ids cannot be masked or predicted.
        """
        space, codec = self.codec(modality)
        if self.attention_pattern(space) != "full" or codec.start.ndim:
            raise ConfigError(f"this base does not fill gaps in {space!r}; it reads from the left")
        if GAP not in text:
            raise ConfigError(f"there is no gap to fill; write {GAP} where a token is missing")
        segment, gaps = self._with_gaps(space, text)
        read = Predict(space, "gaps", index=gaps)
        view = self._view(space, segment, (read,))
        logits_GV = self.model(view).predictions["gaps"][0]
        top = logits_GV.float().softmax(dim=-1).topk(min(most, logits_GV.shape[-1]))
        before = np.zeros(0, np.int64)
        return [
            [
                Guess(token_text(codec, before, int(i)), float(p))
                for p, i in zip(probabilities, ids, strict=True)
            ]
            for probabilities, ids in zip(top.values, top.indices, strict=True)
        ]

    def _with_gaps(self, space: str, text: str) -> tuple[Segment, torch.Tensor]:
        """Return the segment [1,N] of a text with masked gaps, and the indices of these [1,G]."""
        codec, kind = self.codecs[space], self.config.modalities[space]
        joined, gaps = _joins_blanks(codec), list[int]()
        ids = [int(i) for i in opening(codec)]
        for number, part in enumerate(text.split(GAP)):
            if number:
                gaps.append(len(ids))
                ids.append(int(codec.start))  # any value: it is embedded as masked
            part = part.removesuffix(" ") if joined else part
            if part:
                with unreadable(0, space, ()):
                    ids += [int(i) for i in codec.encode(kind.clean_prefix(part)).values]
        ids += [int(i) for i in closing(codec)]
        ids_1N, index_1G = torch.tensor([ids]), torch.tensor([gaps])
        masked_1N = torch.zeros_like(ids_1N, dtype=torch.bool).scatter(1, index_1G, True)
        line_1N3 = torch.arange(len(ids))[None, :, None].expand(1, -1, 3)
        return Segment(space, ids_1N, line_1N3, masked=masked_1N), index_1G


def _joins_blanks(codec: Codec) -> bool:
    """Return whether the blank before a word belongs to its first token."""
    try:
        return len(codec.encode(" a").values) == len(codec.encode("a").values)
    except ValueError:
        return False
