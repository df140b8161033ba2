"""The checks of a modality's part of the model, and of its corruption.

Legend: B rows, N tokens, K channels, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from broadbase.core.spaces import Embedder, Head
from broadbase.core.view import Segment
from broadbase.testing.promise import promise, same
from broadbase.testing.trial import Trial


def check_space(trial: Trial) -> None:
    """Check the Embedder and the Head of the trial's one modality on its rows."""
    (segment,) = trial.segments.values()
    space = trial.model().eval().spaces[segment.space]
    promise(
        isinstance(space, Embedder | Head), f"space returns an Embedder or a Head, not {space!r}"
    )
    states = torch.randn(*segment.position.shape[:2], trial.settings.towers["main"].width)
    with torch.no_grad():
        if isinstance(space, Embedder):
            states = _check_embedder(space, segment, states.shape)
        if isinstance(space, Head):
            _check_head(space, segment, states)


def _check_embedder(space: Embedder, segment: Segment, shape: torch.Size) -> Tensor:
    values = segment.values
    x_BND = space.embed(values)
    promise(
        x_BND.shape == shape and bool(torch.isfinite(x_BND).all()),
        f"embed gives finite vectors [B,N,D] = {list(shape)}, not {list(x_BND.shape)}",
    )
    if space.mask_vector is not None:
        masked = torch.ones(shape[:2], dtype=torch.bool)
        other = values.roll(1, dims=1)
        promise(
            same(space.embed(values, masked), space.embed(other, masked)),
            "embed does not let a masked value through: its vector depends on the value",
        )
    return x_BND


def _check_head(space: Head, segment: Segment, x_BND: Tensor) -> None:
    values = segment.values
    prediction, score_BN = space.predict(x_BND), space.score(x_BND, values)
    promise(
        score_BN.shape == values.shape[:2] and bool(torch.isfinite(score_BN).all()),
        f"score gives one finite number for each token, [B,N] = {list(values.shape[:2])}, not"
        f" {list(score_BN.shape)}: a loss is not reduced before objectives have weighed it",
    )
    first = space.score(x_BND[:, 1:2], values[:, 1:2])
    promise(
        torch.allclose(first, score_BN[:, 1:2], atol=1e-5),
        "the score of a token depends on its own state and target alone",
    )
    drawn = space.sample(prediction, lambda logits: logits.argmax(dim=-1))
    promise(
        drawn.shape == values.shape and drawn.is_floating_point() == values.is_floating_point(),
        f"sample gives values like those of a record, {values.dtype} {list(values.shape)}, not"
        f" {drawn.dtype} {list(drawn.shape)}",
    )


def check_corruption(trial: Trial) -> None:
    """Check that noise changes only what it was given, and follows from its draws."""
    ((name, segment),) = ((s.space, s) for s in trial.segments.values())
    values = segment.values
    generator = torch.Generator().manual_seed(0)
    chosen = torch.rand(values.shape[:2], generator=generator) < 0.5
    draws = torch.rand(values.shape[:2], generator=generator, dtype=torch.float64)
    noisy, masked = trial.corrupt[name].noise(values.clone(), chosen, draws)
    promise(
        noisy.shape == values.shape and noisy.dtype == values.dtype,
        f"noise keeps the shape and type of values, {values.dtype} {list(values.shape)}",
    )
    promise(
        masked.dtype == torch.bool and same(masked, masked & chosen),
        "noise returns which tokens are masked, bool [B,N], and those are among the chosen",
    )
    promise(
        same(noisy[~chosen], values[~chosen]), "noise leaves tokens that are not chosen as they are"
    )
    promise(
        same(trial.corrupt[name].noise(values.clone(), chosen, draws), (noisy, masked)),
        "noise follows from its draws alone",
    )
