"""What a forward does without parameters: it joins segments, reads states and adds up losses.

Legend: B batch, N tokens of a segment, T tokens of a stream, S tokens of a readout, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from broadbase.core.errors import ConfigError
from broadbase.core.loss import AuxLosses
from broadbase.core.spaces import Head
from broadbase.core.view import Input, Readout, Score, StreamSegment, Tokens, TowerOutput


def join_tokens(segments: Sequence[Input]) -> Tokens:
    """Return what attention may know of the tokens of a stream, [B,T] in the order of segments."""
    position = [segment.position for segment in segments]
    return Tokens(
        position=position[0] if len(position) == 1 else torch.cat(position, dim=1),
        order=_join([s.order for s in segments]),
        document=_join([s.document for s in segments]),
        token_type=_join([s.token_type for s in segments]),
        noise_level=_join([s.noise_level for s in segments]),
    )


def _join(fields: Sequence[Tensor | None]) -> Tensor | None:
    """Return one tensor [B,T] of those of all segments; all of them have one or none has."""
    present = [field for field in fields if field is not None]
    assert len(present) in (0, len(fields)), "all segments of a stream have a field, or none has"
    if not present:
        return None
    return present[0] if len(present) == 1 else torch.cat(present, dim=1)


def layer_states(output: TowerOutput, layers: tuple[int, ...]) -> Tensor:
    """Return the last states [B,N,D], or those after each of `layers`, concatenated along D."""
    return torch.cat([output.layers[i - 1] for i in layers], dim=-1) if layers else output.x


def check_length(connector: str, x_BND: Tensor, segment: StreamSegment) -> None:
    """Raise ConfigError where a connector gives more or fewer tokens than its segment has."""
    given, expected = x_BND.shape[1], segment.position.shape[1]
    if given != expected:
        raise ConfigError(
            f"the connector {connector} gives {given} tokens, and the stream {segment.stream!r} is"
            f" read as {expected}"
        )


def token_count(segment: StreamSegment) -> float:
    """Return how many tokens of a segment are not padding."""
    document_BN, position_BN3 = segment.document, segment.position
    return float((position_BN3[..., 0] if document_BN is None else document_BN).ge(0).sum())


def readout_states(output: TowerOutput, read: Readout, head: Head) -> Tensor:
    """Return the states [B,S,D] that a head predicts from."""
    if read.pooled:
        return head.pooled(output.x, output.tokens.document).unsqueeze(1)
    if read.index is None:
        return output.x
    return output.x.gather(1, read.index.unsqueeze(-1).expand(-1, -1, output.x.shape[-1]))


def weighted_sums(losses: AuxLosses, score: Score) -> AuxLosses:
    """Sum the auxiliary losses of a head [B,S] over the scored tokens, as weighted: [B] each."""
    weight_BS: Tensor = score.loss_weight
    return {name: (loss_BS * weight_BS).sum(dim=1) for name, loss_BS in losses.items()}


def add_terms(aux: dict[str, Tensor], part: str, losses: AuxLosses) -> None:
    """Add the auxiliary losses of a part, [B] each, to the terms "part/name" of `aux`."""
    for name, loss_B in losses.items():
        term = f"{part}/{name}"
        aux[term] = aux[term] + loss_B if term in aux else loss_B
