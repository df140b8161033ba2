"""What a base computes of records: vectors, properties and logits.

Legend: B batch, M records, N tokens, V vocabulary, D width, L layers, K properties.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from broadbase.core.view import Predict, View, pool
from broadbase.inference.documents import alike, closing, opening, padded, several
from broadbase.inference.interleave import reading
from broadbase.inference.linear import packed
from broadbase.inference.reader import Reader

ROWS = 64  # of a product, at least: weights in blocks for one row are slower for so many
Done = Callable[[int], None]  # called with how many records or steps were finished


def ignored(count: int) -> None:
    """Report nothing."""


@dataclass(frozen=True, repr=False)
class Embedding(Reader):
    """A base's vectors, properties and logits of records."""

    @torch.inference_mode()
    def embed(
        self,
        raws: Sequence[Any],
        *,
        modality: str | None = None,
        layers: bool = True,
        deviations: bool = False,
        batch: int = 32,
        done: Done = ignored,
    ) -> NDArray[np.float32]:
        """Return a vector for each record, the mean over its tokens.

        It is of all layers concatenated [M,L*D] or of the last [M,D]. With `deviations` the
        standard deviations over the tokens follow, as many as there are means.

        `done` is called with the number of records of every batch.
        """
        vectors = dict[int, Tensor]()
        for chosen, parts, documents in self._states(raws, modality, layers, batch):
            pooled = [pool(x, documents) for x in parts]
            if deviations:
                pooled += [
                    pool((x - mean[:, None]) ** 2, documents).sqrt()
                    for x, mean in zip(parts, pooled, strict=True)
                ]
            rows = torch.cat(pooled, dim=-1).float().cpu()
            vectors |= dict(zip(chosen, rows, strict=True))
            done(len(chosen))
        ordered = [vectors[i] for i in range(len(vectors))]
        return torch.stack(ordered).numpy() if ordered else np.zeros((0, 0), np.float32)

    @torch.inference_mode()
    def embed_tokens(
        self,
        raws: Sequence[Any],
        *,
        modality: str | None = None,
        layers: bool = True,
        batch: int = 32,
        done: Done = ignored,
    ) -> list[NDArray[np.float32]]:
        """Return a vector for each token of each record, its start and end left out.

        It is of all layers concatenated [N,L*D] or of the last [N,D].
        """
        codec = self.codec(modality)[1]
        first, last = len(opening(codec)), None
        if self._closed(modality):
            last = -len(closing(codec)) or None
        states = dict[int, NDArray[np.float32]]()
        for chosen, parts, documents in self._states(raws, modality, layers, batch):
            rows = torch.cat(list(parts), dim=-1).float().cpu().numpy()
            sizes = [len(row) if documents is None else int((documents[b] >= 0).sum())
                     for b, row in enumerate(rows)]  # fmt: skip
            for i, row, size in zip(chosen, rows, sizes, strict=True):
                states[i] = row[:size][first:last]
            done(len(chosen))
        return [states[i] for i in range(len(states))]

    def _states(
        self, raws: Sequence[Any], modality: str | None, layers: bool, batch: int
    ) -> Iterator[tuple[list[int], Sequence[Tensor], Tensor | None]]:
        """Yield hidden states [B,N,D] of some records: their numbers, the states
        of all layers or of the last, their documents.

        With full attention a document is read with its end. Records of about the same length are
        read together, `batch` or as many as their tokens allow.
        """
        space = self.codec(modality)[0]
        documents = self._documents(space, several(raws), self._closed(modality))
        using = replace(self, model=packed(self.model, ROWS))
        for chosen in alike([len(position) for _, position in documents], batch):
            segment = padded(space, [documents[i] for i in chosen])
            hidden = using.model(using._view(space, segment), layers=layers).streams["main"]
            yield chosen, hidden.layers if layers else (hidden.x,), hidden.tokens.document

    @torch.inference_mode()
    def predict_properties(
        self, raws: Sequence[Any], *, modality: str | None = None, batch: int = 32
    ) -> NDArray[np.float32] | None:
        """Predict properties of records [M,K], such as descriptors; None if of none."""
        space, raws = self.codec(modality)[0], several(raws)
        kind = self.config.modalities[space].name
        reads = tuple(
            Predict(name, name, pooled=True)
            for name, other in self.config.modalities.items()
            if other.describes == kind and self.tower(name) == self.tower(space)
        )
        predictions: list[Tensor] = []
        for i in range(0, len(raws) if reads else 0, batch):
            closed = self._closed(modality)
            segment = self.read(raws[i : i + batch], modality=space, closed=closed, first=i)
            said = self.model(self._view(space, segment, reads)).predictions
            predictions.append(torch.cat([said[r.term][:, 0] for r in reads], dim=-1).float().cpu())
        return torch.cat(predictions).numpy() if predictions else None

    @torch.inference_mode()
    def embed_joint(
        self, raws: Sequence[Any], head: str, *, modality: str | None = None, batch: int = 32
    ) -> Tensor:
        """Return the vector of each record in a joint space [M,K+1], by a joint head.

        The dot product of two vectors, one of each side, is the logit of their being a pair.
        """
        space, raws = self.codec(modality)[0], several(raws)
        vectors = []
        for i in range(0, len(raws), batch):
            segment = self.read(raws[i : i + batch], modality=space, closed=True, first=i)
            view = self._view(space, segment, (Predict(head, "joint", pooled=True),))
            vectors.append(self.model(view).predictions["joint"][:, 0].float().cpu())
        return torch.cat(vectors)

    @torch.inference_mode()
    def logits(
        self, raw: Any, *, attachments: Sequence[Any] = (), modality: str | None = None
    ) -> Tensor:
        """Return predictions at every token of the document that `raw` begins: [N+1, V] for ids.

        With full attention the document is read with its end: [N+2, V]. What comes before and
        after it is as the tokenizer's template says. Special tokens may be written in a text.
        Attachments have tokens of their own among these, in the order of reading.
        """
        space = self.codec(modality)[0]
        start = self._begun(space, [raw], closed=self.attention_pattern(space) == "full")
        view = self._view(space, start, inside=[attachments])
        *others, last = view.streams
        read = Predict(space, "logits", index=reading(last))
        output = self.model(View((*others, replace(last, readouts=(read,)))))
        logits: Tensor = output.predictions["logits"][0]
        return logits
