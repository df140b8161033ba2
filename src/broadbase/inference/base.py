"""A Base: a pretrained model with its codecs, ready to be used.

Legend: N places, V vocabulary, D width, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from broadbase.core.contracts import Codec
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.view import Readout, Segment, Stream, View, pool, positions
from broadbase.inference.autoregressive import SamplingConfig, continued
from broadbase.inference.decoding import drawn, must_stop
from broadbase.inference.documents import (
    alike,
    closing,
    document,
    must_fit,
    opening,
    padded,
    several,
    unreadable,
)
from broadbase.inference.interleave import (
    Placeholder,
    following,
    furthest,
    interleaved,
    reading,
    slots,
)
from broadbase.inference.linear import eight_bit, packed
from broadbase.model.initialise import initialise
from broadbase.model.model import Model, ModelConfig

Ask = Callable[[Segment, Segment], View]  # what is given, what is told so far
Done = Callable[[int], None]  # called with how many records or steps were finished


def ignored(count: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Origin:
    """The published folder that a base was read from, so that it can leave as it came."""

    config: Mapping[str, Any]  # its config.json
    names: Mapping[str, str]  # of its tensors, and the file of each
    unused_tensors: Mapping[str, Tensor]  # those that our forward does not use
    files: Mapping[str, bytes]  # of its tokenizer and generation


@dataclass(frozen=True, repr=False)
class Base:
    """What `broadbase.load` gives: raw values in, raw values, vectors or logits out."""

    config: ModelConfig
    model: Model
    codecs: Mapping[str, Codec]
    pattern: str = "causal"  # who saw whom in pretraining
    origin: Origin | None = None
    patterns: Mapping[str, str] = field(default_factory=dict)  # of towers that saw otherwise

    def __repr__(self) -> str:
        kinds = ", ".join(f"{n}: {self.config.modalities[n].name}" for n in self.codecs)
        size = sum(p.numel() for p in self.model.parameters())
        return f"Base({kinds}; {size:,} parameters)"

    def reinitialised(self, seed: int) -> Base:
        """The same base from random init: what any claim of transfer is compared with."""
        model = self.config.build()
        initialise(model, seed)
        model.to(next(self.model.parameters()).device)
        return replace(self, model=model.eval())

    def generate(
        self,
        prompt: Any = None,
        *,
        attachments: Sequence[Any] = (),
        modality: str | None = None,
        max_new_tokens: int = 64,
        grid: tuple[int, ...] | None = None,
        stop: Sequence[str] = (),
        sampling: SamplingConfig | None = None,
    ) -> Any:
        """Continue `prompt` (None: from nothing) by up to `places`, or until `grid` is full.

        `inside` are the records of other modalities that the prompt names, in its order: pictures,
        for each `<image>` of a LLaVA. A sequence ends at any end of its modality or where one of
        the `stop` strings appears (which is cut off); both may be special tokens, which a prompt
        may hold too. Returns the new raw value: for text without the prompt, for a grid the whole.
        """
        if grid is None:
            (found,) = self.generate_batch(
                [prompt], attachments=[attachments], modality=modality,
                max_new_tokens=max_new_tokens, stop=stop, sampling=sampling,
            )  # fmt: skip
            return found
        space, codec = self.codec(modality)
        self._must_be_causal(space)
        start = self._begun(space, [prompt])
        view = self._view(space, start, inside=[attachments])
        where = (1 + positions(grid))[start.position.shape[1] - 1 :]
        choose = (sampling or SamplingConfig()).build()
        (found,) = drawn(continued(self.model, view, where, choose), start, codec, grid=grid)
        return found

    def generate_from(
        self,
        ask: Ask,
        raws: Sequence[Any],
        *,
        source: str,
        target: str,
        prefix: Any = None,
        max_new_tokens: int = 64,
        grid: tuple[int, ...] | None = None,
        sampling: SamplingConfig | None = None,
    ) -> list[Any]:
        """What is told in modality `told` after each of `raws` in modality `given`, drawn side by
        side: up to `places` or the end, or until `grid` is full; what is `begun` (a question) is
        not told again.

        `ask` is how the objective gives one before the other (`Conditional.prompt`).
        """
        space, codec = self.codec(target)
        if prefix is not None and grid is not None:
            raise ConfigError("a grid is told whole, from nothing; leave out what is begun")
        start = self._begun(space, [prefix] * len(raws))
        view = ask(self.read(raws, modality=source, whole=True), start)
        if grid is None:
            must_fit(space, self.config.max_length(space), start.position.shape[1], max_new_tokens)
            where_MB3: Iterable[Tensor] = following(view.streams[-1], max_new_tokens)
        else:
            first_B13 = view.streams[-1].segments[-1].position
            where_MB3 = 1 + positions(grid)[:, None] + first_B13.transpose(0, 1)
        choose = (sampling or SamplingConfig()).build()
        return drawn(continued(self.model, view, where_MB3, choose), start, codec, grid=grid)

    def sample(
        self, count: int, *, modality: str | None = None, max_new_tokens: int = 64,
        sampling: SamplingConfig | None = None,
    ) -> list[Any]:  # fmt: skip
        """`count` sequences from nothing, drawn side by side, up to `places` or their end each."""
        return self.generate_batch(
            [None] * count,
            modality=modality,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            batch=count,
        )

    def generate_batch(
        self,
        raws: Sequence[Any],
        *,
        attachments: Sequence[Sequence[Any]] | None = None,
        modality: str | None = None,
        max_new_tokens: int = 64,
        stop: Sequence[str] = (),
        sampling: SamplingConfig | None = None,
        batch: int = 32,
    ) -> list[Any]:
        """What follows each of `raws`, `batch` drawn side by side, each as if alone (`Sampler`
        tells by what chance), up to `places`, to its end or to one of the `stop` strings; `inside`
        each, the records that it names."""
        space, codec = self.codec(modality)
        self._must_be_causal(space)
        must_stop(stop)
        raws, found = several(raws), list[Any]()
        for i in range(0, len(raws), max(1, batch)):
            chosen = slice(i, i + max(1, batch))
            start = self._begun(space, raws[chosen], i)
            view = self._view(
                space, start, inside=None if attachments is None else attachments[chosen]
            )
            last = view.streams[-1]
            must_fit(space, self.config.max_length(space), furthest(last), max_new_tokens)
            choose = (sampling or SamplingConfig()).build(i)
            steps = continued(self.model, view, following(last, max_new_tokens), choose)
            found += drawn(steps, start, codec, stop)
        return found

    def eight_bit(self) -> Base:
        """The same with the weights of its linear maps in 8 bits: a quarter of their memory, and
        faster on a CPU. It cannot be saved or trained; `python bench/eight_bit.py RUN` tells what
        it costs in perplexity."""
        return replace(self, model=eight_bit(self.model))

    @torch.inference_mode()
    def embed(
        self,
        raws: Sequence[Any],
        *,
        modality: str | None = None,
        layers: bool = True,
        batch: int = 32,
        done: Done = ignored,
    ) -> NDArray[np.float32]:
        """A vector a record: the mean over places, of all layers joined [M,L*D] or of the last.

        `done` is called with the number of records of every batch.
        """
        vectors = dict[int, Tensor]()
        for chosen, parts, documents in self._states(raws, modality, layers, batch):
            means = torch.cat([pool(x, documents) for x in parts], dim=-1).float().cpu()
            vectors |= dict(zip(chosen, means, strict=True))
            done(len(chosen))
        found = [vectors[i] for i in range(len(vectors))]
        return torch.stack(found).numpy() if found else np.zeros((0, 0), np.float32)

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
        """A vector a place of each record, of all layers joined [N,L*D] or of the last.

        Its start and end are left out.
        """
        codec = self.codec(modality)[1]
        first, last = len(opening(codec)), None
        if self._whole(modality):
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
        """Hidden states [B,N,D] of some records at a time: their numbers, layer by layer or the
        last, documents.

        Where places see both ways, a document is read whole, its end value too. Records of about
        the same length are read together, `batch` or as many as their places allow.
        """
        space = self.codec(modality)[0]
        documents = self._documents(space, several(raws), self._whole(modality))
        using = replace(self, model=packed(self.model))
        for chosen in alike([len(position) for _, position in documents], batch):
            segment = padded(space, [documents[i] for i in chosen])
            hidden = using.model(using._view(space, segment), layers=layers).streams["main"]
            yield chosen, hidden.layers if layers else (hidden.x,), hidden.tokens.document

    @torch.inference_mode()
    def predict_properties(
        self, raws: Sequence[Any], *, modality: str | None = None, batch: int = 32
    ) -> NDArray[np.float32] | None:
        """What the base tells of whole records [M,K] (descriptors, of molecules); None: nothing."""
        space, raws = self.codec(modality)[0], several(raws)
        kind = self.config.modalities[space].name
        reads = tuple(
            Readout(name, name, pooled=True)
            for name, other in self.config.modalities.items()
            if other.describes == kind and self.tower(name) == self.tower(space)
        )
        found: list[Tensor] = []
        for i in range(0, len(raws) if reads else 0, batch):
            whole = self._whole(modality)
            segment = self.read(raws[i : i + batch], modality=space, whole=whole, first=i)
            said = self.model(self._view(space, segment, reads)).predictions
            found.append(torch.cat([said[r.term][:, 0] for r in reads], dim=-1).float().cpu())
        return torch.cat(found).numpy() if found else None

    @torch.inference_mode()
    def logits(
        self, raw: Any, *, attachments: Sequence[Any] = (), modality: str | None = None
    ) -> Tensor:
        """Predictions at every place of the document that `raw` begins: [N+1, V] for ids.

        Where places see both ways the document is read whole, its end too: [N+2, V]. What comes
        before and after it is as the tokenizer's template says. Special tokens may be written in a
        text. Records `inside` it have places of their own among these, in the order of reading.
        """
        space = self.codec(modality)[0]
        start = self._begun(space, [raw], whole=self.attention_pattern(space) == "full")
        view = self._view(space, start, inside=[attachments])
        *others, last = view.streams
        read = Readout(space, "logits", index=reading(last))
        output = self.model(View((*others, replace(last, readouts=(read,)))))
        logits: Tensor = output.predictions["logits"][0]
        return logits

    def read(
        self,
        raws: Iterable[Any],
        *,
        modality: str | None = None,
        whole: bool = False,
        first: int = 0,
    ) -> Segment:
        """Records as `prepare` reads them, cleaned and encoded, with their start, side by side.

        `whole` ones have their end value too. DataError names the first that is no such record,
        counted from `first` on.
        """
        space = self.codec(modality)[0]
        return padded(space, self._documents(space, several(raws), whole, first))

    def _begun(
        self, space: str, raws: Sequence[Any], first: int = 0, whole: bool = False
    ) -> Segment:
        """Beginnings of records, to go on with; None: from nothing. A text may hold special
        tokens."""
        return padded(space, self._documents(space, raws, whole, first, begun=True))

    def _documents(
        self, space: str, raws: Sequence[Any], whole: bool, first: int = 0, *, begun: bool = False
    ) -> list[tuple[Tensor, Tensor]]:
        codec, kind = self.codecs[space], self.config.modalities[space]
        clean, others = (
            kind.clean_prefix if begun else kind.clean,
            [n for n in self.codecs if n != space],
        )
        found = []
        for number, raw in enumerate(raws, first):
            with unreadable(number, space, others):
                if raw is None and not begun:
                    raise DataError(f"record {number} is None; leave it out")
                made = None if raw is None else clean(raw)
                found.append(document(codec, made, whole, special=begun))
        return found

    def _view(
        self,
        space: str,
        segment: Segment,
        reads: tuple[Readout, ...] = (),
        inside: Sequence[Sequence[Any]] | None = None,
    ) -> View:
        """`segment` [B,N] to its tower; what is `inside` each row goes through a tower of its own,
        where it has one, to the place that the ids of the segment give it."""
        must_fit(space, self.config.max_length(space), segment.position.shape[1])
        tower, streams = self.tower(space), list[Stream]()
        records: list[tuple[Segment, Tensor]] = []
        for i, slot in enumerate(self._slots(space, segment, inside)):
            kind = slot.modality
            given = self.read(
                slot.raws, modality=kind, whole=self.attention_pattern(kind) == "full"
            )
            if self.tower(kind) != tower:
                streams.append(
                    Stream(f"{kind} {i}", self.tower(kind), (given,), self.attention_pattern(kind))
                )
                connector: Any = self.model.connectors[f"{self.tower(kind)}>{tower}"]
                given = replace(connector.seen(given), space=f"@{kind} {i}", values=None)
            records.append((given, slot.at))
        segments = interleaved(segment, records) if records else (segment,)
        streams.append(
            Stream("main", tower, segments, self.attention_pattern(space), readouts=reads)
        )
        return View(tuple(streams)).to(next(self.model.parameters()).device)

    def _slots(
        self, space: str, segment: Segment, inside: Sequence[Sequence[Any]] | None
    ) -> Sequence[Placeholder]:
        codec = self.codecs[space]
        stands: Mapping[str, int] = getattr(codec, "placeholder_ids", {})
        if not stands and not any(inside or ()):
            return ()
        rows = inside or [()] * len(segment.position)
        return slots(segment, stands, rows, getattr(codec, "id_to_token", str))

    def max_tokens(self, modality: str | None = None) -> float:
        """How many values a record may have at most, its start and end not counted: what the
        positions of its tower leave for them."""
        space, codec = self.codec(modality)
        return self.config.max_length(space) - len(opening(codec)) - len(closing(codec))

    def tower(self, space: str) -> str:
        """The tower that a Space belongs to."""
        return self.config.tower_of.get(space, next(iter(self.config.towers)))

    def attention_pattern(self, space: str) -> str:
        """The pattern in which the places of a Space see each other."""
        return self.patterns.get(self.tower(space), self.pattern)

    def codec(self, modality: str | None = None) -> tuple[str, Codec]:
        """The name and codec of a modality, or of the first; ConfigError where there is none."""
        name = modality or next(iter(self.codecs), "")
        if name not in self.codecs:
            known = ", ".join(self.codecs) or "none"
            raise ConfigError(f"this base has no modality {name!r}; it has: {known}")
        return name, self.codecs[name]

    def _whole(self, modality: str | None) -> bool:
        """Whether a record is read with what comes after it: where places see both ways, or where
        a tokenizer's template says what that is."""
        space, codec = self.codec(modality)
        return self.attention_pattern(space) == "full" or getattr(codec, "after", None) is not None

    def _must_be_causal(self, space: str) -> None:
        if self.attention_pattern(space) != "causal":
            raise ConfigError(
                f"this base was pretrained with a {self.attention_pattern(space)!r} pattern and"
                " cannot generate; pretrain with --set objective.name=causal"
            )
