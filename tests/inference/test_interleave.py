"""Records inside a text: every place stands where reading would put it, whatever its kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from broadbase.core.errors import ConfigError
from broadbase.core.view import MaskedSegment, Predict, Segment, Stream, View, positions
from broadbase.inference.autoregressive import SamplingConfig, continued
from broadbase.inference.base import Base
from broadbase.inference.interleave import following, interleaved, reading, slots
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from support.models import MODALITIES, TOWER

MARK, CROSS = 7, 8  # ids that stand for a plane and for a line
GRIDS = {"plane": (2, 2), "line": (3,)}
ids = st.lists(st.sampled_from([1, 2, 3, MARK, CROSS]), min_size=1, max_size=9)


@given(rows=st.lists(ids, min_size=1, max_size=3))
def test_positions_follow_each_other_as_read(rows: list[list[int]]) -> None:
    """Order and positions, against a walk along each row."""
    N = max(map(len, rows))
    real = torch.tensor([[n < len(row) for n in range(N)] for row in rows])
    values = torch.tensor(
        [row + [MARK] * (N - len(row)) for row in rows]
    )  # padding stands for none
    place = torch.arange(N).expand(len(rows), -1)
    line = positions((N,)).expand(len(rows), -1, -1)
    text = Segment("text", values, line, place, torch.where(real, 0, -1))
    stands = {"plane": MARK, "line": CROSS}
    kinds = {identity: kind for kind, identity in stands.items()}
    inside = [[(b, n) for n, i in enumerate(row) if i in kinds] for b, row in enumerate(rows)]
    result = slots(text, stands, inside)
    records = []
    for slot in result:
        grid = positions(GRIDS[slot.modality])
        segment = MaskedSegment(slot.modality, grid.expand(len(rows), -1, -1))
        records.append((segment, slot.at))
        for raw, at in zip(slot.raws, slot.at, strict=True):
            assert not at.any() or raw[1] == int(at.nonzero())
    *parts, left = interleaved(text, records) if records else (text,)
    for b, row in enumerate(rows):
        expected = walked(row, kinds)
        seen: list[tuple[int, str, list[int]]] = []
        for segment in (*parts, left):
            assert segment.order is not None
            assert segment.document is not None
            for n in segment.document[b].ge(0).nonzero().flatten():
                where = segment.position[b, n].tolist()
                seen.append((int(segment.order[b, n]), segment.space, where))
        assert sorted(seen) == expected
        after = torch.stack([*following(Stream("s", "main", (*parts, left)), 2)])[:, b]
        furthest = max(max(where) for *_, where in expected)
        assert after.tolist() == [[furthest + 1] * 3, [furthest + 2] * 3]


def walked(row: list[int], kinds: dict[int, str]) -> list[tuple[int, str, list[int]]]:
    result: list[tuple[int, str, list[int]]] = []
    start = 0
    for identity in row:
        grid = positions(GRIDS[kinds[identity]]) if identity in kinds else positions((1,))
        for place in grid + start:
            result.append((len(result), kinds.get(identity, "text"), place.tolist()))
        start += 1 + int(grid.max())
    return result


def base() -> Base:
    """Bytes and pictures in one tower; the id of a tab stands for a picture."""
    config = ModelConfig.from_tree({"modalities": MODALITIES, "towers": {"main": TOWER}})
    model = config.build()
    initialise(model, 0)
    codecs = {name: modality.fit([]) for name, modality in config.modalities.items()}
    codecs["bytes"].placeholder_ids = {"image": 9}
    return Base(config, model.eval(), codecs)


def test_one_tower_reads_a_picture_as_if_it_lay_there() -> None:
    """The same logits as of segments in the order of reading, and the same continuation."""
    mixed, picture = base(), np.random.default_rng(0).integers(0, 16, (4, 4)) / 15
    start = torch.tensor([[256, *b"a"]])
    image = mixed.codecs["image"]
    patches = torch.from_numpy(np.concatenate([image.start[None], image.encode(picture).values]))
    plane = torch.cat([torch.zeros(1, 3, dtype=torch.int64), 1 + positions((2, 2))])
    segments = (
        Segment("bytes", start, positions((2,))[None]),
        Segment("image", patches[None], 2 + plane[None]),
        Segment("bytes", torch.tensor([[*b"bc"]]), 5 + positions((2,))[None]),
    )
    stream = Stream("main", "main", segments, "causal", readouts=(Predict("bytes", "x"),))
    with torch.no_grad():
        expected = mixed.model(View((stream,))).predictions["x"][0]
    assert torch.allclose(mixed.logits("a\tbc", attachments=[picture]), expected, atol=1e-5)
    greedy = SamplingConfig(temperature=0)
    steps = continued(mixed.model, View((stream,)), 7 + positions((6,)), greedy.build())
    ours = mixed.generate("a\tbc", attachments=[picture], max_new_tokens=6, sampling=greedy)
    assert ours == mixed.codecs["bytes"].decode(torch.cat([*steps], dim=1)[0].numpy(), (6,))


def test_texts_of_other_lengths_go_on_side_by_side() -> None:
    mixed, greedy = base(), SamplingConfig(temperature=0)
    picture = np.zeros((4, 4))
    texts, inside = ("abc", "\t", "de\tfg"), ([], [picture], [1 - picture])
    together = mixed.generate_batch(texts, attachments=inside, max_new_tokens=8, sampling=greedy)
    for text, records, output in zip(texts, inside, together, strict=True):
        assert (
            mixed.generate(text, attachments=records, max_new_tokens=8, sampling=greedy) == output
        )
    assert mixed.generate_batch(texts[:1], max_new_tokens=8, sampling=greedy) == together[:1]


def test_reading_follows_order_and_leaves_padding_out() -> None:
    order, document = torch.tensor([[3, 0]]), torch.tensor([[0, 0]])
    spot: Tensor = positions((2,))[None]
    one = MaskedSegment("text", spot, order, document)
    other = MaskedSegment("text", spot, torch.tensor([[1, 2]]), torch.tensor([[-1, 0]]))
    result = reading(Stream("s", "main", (one, other)))
    assert result is not None
    assert result.tolist() == [[1, 3, 0]]


def test_records_without_a_token_that_stands_for_them_are_an_error() -> None:
    mixed = base()
    with pytest.raises(ConfigError, match=r"given: 1; tokens .*: 0; write '9' where"):
        mixed.generate("abc", attachments=[np.zeros((4, 4))])
