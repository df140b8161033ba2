"""The records of `core/view.py`: what a stream is made of, and what its heads do."""

import torch

from broadbase.core.view import (
    MaskedSegment,
    Predict,
    Score,
    Segment,
    Stream,
    StreamSegment,
    View,
    positions,
)

DOCUMENT = torch.tensor([[0, 0, 1, -1]])


def line(**more: torch.Tensor) -> Segment:
    return Segment("bytes", torch.arange(4)[None], positions((4,))[None], **more)


def test_every_token_that_is_no_padding_counts_1_where_no_weight_is_given() -> None:
    assert line().target_weight.tolist() == [[1, 1, 1, 1]]
    assert line(document=DOCUMENT).target_weight.tolist() == [[1, 1, 1, 0]]
    weight = torch.tensor([[0.0, 2, 1, 0]])
    assert line(loss_weight=weight, document=DOCUMENT).target_weight is weight


def test_the_output_of_a_stream_is_at_the_tokens_of_its_segment() -> None:
    order, kind, level = torch.arange(4)[None], torch.ones(1, 4), torch.rand(1, 4)
    read = line(order=order, document=DOCUMENT, token_type=kind, noise_level=level)
    output = read.through("encoder")
    assert output.stream == "encoder"
    for name in ("position", "order", "document", "token_type", "noise_level"):
        assert getattr(output, name) is getattr(read, name)


def test_a_stream_lists_its_segments_and_readouts_by_kind() -> None:
    values, place = line(), positions((4,))[None]
    output, masked = StreamSegment("encoder", place), MaskedSegment("pixels", place)
    score = Score("bytes", "loss", values.values, torch.ones(1, 4))
    predict = Predict("bytes", "next", torch.tensor([[3]]))
    stream = Stream("main", "main", (output, values, masked), readouts=(predict, score))
    assert stream.value_segments == (values,)
    assert stream.stream_segments == (output,)
    view = View((stream, Stream("other", "main", (values,))))
    assert view.scored == (score,)
    assert view.readouts == (predict, score)


def test_a_score_without_targets_predicts_at_the_same_tokens() -> None:
    index = torch.tensor([[1, 3]])
    score = Score("bytes", "loss", torch.zeros(1, 2), torch.ones(1, 2), index, pooled=True)
    assert score.predict("p") == Predict("bytes", "p", index, pooled=True)
    assert score.tokens is index
    assert Score("bytes", "loss", torch.zeros(1, 4), torch.ones(1, 4)).tokens.tolist() == [
        [0, 1, 2, 3]
    ]
