"""Records of several modalities as one document: a text, and what stands in it.

Legend: B rows, N tokens of the text, P tokens of a record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from broadbase.core.errors import ConfigError
from broadbase.core.view import Input, Segment, Stream


@dataclass(frozen=True)
class Placeholder:
    """At most one record a row, all of one modality, and where it stands in the text."""

    modality: str
    raws: Sequence[Any]  # B; what a row without a record has does not count
    at: Tensor  # [B,N] bool


def slots(
    text: Segment,
    stands: Mapping[str, int],
    inside: Sequence[Sequence[Any]],
    spell: Callable[[int], str] = str,
) -> list[Placeholder]:
    """Return the records `inside` each row, where its ids [B,N] say that one `stands`.

    A row's records are given in the order of its text. ConfigError where it names more or fewer.
    """
    kinds, (B, N) = {token_id: kind for kind, token_id in stands.items()}, text.position.shape[:2]
    ids_BN = text.values if text.document is None else text.values.where(text.document >= 0, -1)
    placeholders: dict[tuple[str, int], tuple[list[Any], Tensor]] = {}
    for row, (ids, records) in enumerate(zip(ids_BN.tolist(), inside, strict=True)):
        spots = [
            (kinds[token_id], index) for index, token_id in enumerate(ids) if token_id in kinds
        ]
        if len(spots) != len(records):
            how = " or ".join(f"{spell(i)!r} where each {kind} stands" for i, kind in kinds.items())
            raise ConfigError(
                f"records given: {len(records)}; tokens of the text that stand for one:"
                f" {len(spots)}; {f'write {how}' if how else 'this base reads texts alone'}"
            )
        seen: Counter[str] = Counter()
        for (kind, index), record in zip(spots, records, strict=True):
            empty = ([record] * B, torch.zeros(B, N, dtype=torch.bool))
            raws, at_BN = placeholders.setdefault((kind, seen[kind]), empty)
            raws[row], at_BN[row, index] = record, True
            seen[kind] += 1
    return [Placeholder(kind, raws, at_BN) for (kind, _), (raws, at_BN) in placeholders.items()]


def interleaved(text: Segment, records: Sequence[tuple[Input, Tensor]]) -> tuple[Input, ...]:
    """Join one document a row: `text` [B,N], a line, and each record [B,P] instead of the token
    that stands for it ([B,N] bool, at most once a row), its own positions going on from there.

    Order and positions say what comes after what: in memory the text is last, and the tokens that
    records replace are padding.
    """
    left_BN = _real(text)
    order_BN = position_BN = left_BN.long()  # how many tokens each takes
    for record, at_BN in records:
        real_BP = _real(record)
        extent_BP = (1 + record.position.amax(dim=-1)).where(real_BP, 0)
        order_BN = torch.where(at_BN, real_BP.sum(dim=1, keepdim=True), order_BN)
        position_BN = torch.where(at_BN, extent_BP.amax(dim=1, keepdim=True), position_BN)
    order_BN, position_BN = (x.cumsum(dim=1) - x for x in (order_BN, position_BN))  # the first
    parts = []
    for record, at_BN in records:
        real_BP = _real(record) & at_BN.any(dim=1, keepdim=True)
        first_B1, spot_B1 = ((x * at_BN).sum(dim=1, keepdim=True) for x in (order_BN, position_BN))
        parts.append(
            replace(
                record,
                position=record.position + spot_B1.unsqueeze(-1),
                order=first_B1 + real_BP.cumsum(dim=1) - 1,
                document=torch.where(real_BP, 0, -1),
            )
        )
        left_BN = left_BN & ~at_BN
    line_BN3 = position_BN.unsqueeze(-1).expand(-1, -1, 3)
    document_BN = torch.where(left_BN, 0, -1)
    return (*parts, replace(text, position=line_BN3, order=order_BN, document=document_BN))


def reading(stream: Stream) -> Tensor | None:
    """Return the indices in memory of the tokens of one row [1,T], in the order of reading.

    None: as they lie.
    """
    orders = [s.order for s in stream.segments if s.order is not None]
    documents = [s.document for s in stream.segments if s.document is not None]
    if not orders:
        return None
    order_1T, real_1T = torch.cat(orders, dim=1), torch.cat(documents, dim=1) >= 0
    return order_1T.masked_fill(~real_1T, order_1T.numel()).argsort(dim=1)[:, : real_1T.sum()]


def following(stream: Stream, count: int) -> Iterator[Tensor]:
    """Yield the next positions of each row: a line from after its furthest, [B,3] each."""
    next_B1 = _next(stream).unsqueeze(-1)
    for i in range(count):
        yield (next_B1 + i).expand(-1, 3)


def furthest(stream: Stream) -> int:
    """Return how many positions the longest row takes."""
    return int(_next(stream).max())


def _next(stream: Stream) -> Tensor:
    """Return the first position after each row: [B]."""
    ends = [s.position.amax(dim=-1).where(_real(s), -1).amax(dim=1) for s in stream.segments]
    return 1 + torch.stack(ends).amax(dim=0)


def _real(segment: Input) -> Tensor:
    """Return which tokens are no padding: [B,N]."""
    if segment.document is None:
        return torch.ones_like(segment.position[..., 0], dtype=torch.bool)
    return segment.document >= 0
