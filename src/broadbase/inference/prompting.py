"""What a base generates.

Legend: B rows, M generated tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from broadbase.core.errors import ConfigError
from broadbase.core.usage import ConditioningConfig, GeneratorConfig
from broadbase.core.view import Segment, View, positions
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.decoding import drawn, must_stop
from broadbase.inference.documents import must_fit, several
from broadbase.inference.interleave import following, furthest
from broadbase.inference.reader import Reader
from broadbase.inference.request import GenerateRequest, Prompt

Start = tuple[Segment, View]  # the output as far as it is given, and the view to be continued


@dataclass(frozen=True, repr=False)
class Prompting(Reader):
    """A base's continuations and answers."""

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
        """Return what is generated from `prompt` (None: from nothing), as `generate_batch` does."""
        (output,) = self.generate_batch(
            [prompt],
            attachments=[attachments],
            modality=modality,
            max_new_tokens=max_new_tokens,
            grid=grid,
            stop=stop,
            sampling=sampling,
        )
        return output

    def sample(
        self,
        count: int,
        *,
        modality: str | None = None,
        max_new_tokens: int = 64,
        sampling: SamplingConfig | None = None,
    ) -> list[Any]:
        """Return `count` sequences generated from nothing, side by side."""
        return self.generate_batch(
            [None] * count,
            modality=modality,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            batch=max(1, count),
        )

    def generate_batch(
        self,
        raws: Sequence[Any],
        *,
        attachments: Sequence[Sequence[Any]] | None = None,
        modality: str | None = None,
        max_new_tokens: int = 64,
        grid: tuple[int, ...] | None = None,
        stop: Sequence[str] = (),
        sampling: SamplingConfig | None = None,
        batch: int = 32,
    ) -> list[Any]:
        """Return what is generated from each of `raws`, `batch` of them side by side.

        Arguments are those of `GenerateRequest`; `attachments` are those of each prompt, in the
        order in which it names them. Errors are those of `generate_request`.
        """
        must_stop(stop)
        values = several(raws)
        given = attachments if attachments is not None else [()] * len(values)
        return self.generate_request(
            GenerateRequest(
                prompts=tuple(
                    Prompt(value=value, attachments=tuple(some))
                    for value, some in zip(values, given, strict=True)
                ),
                modality=modality,
                max_new_tokens=max_new_tokens,
                grid=grid,
                stop=tuple(stop),
                sampling=sampling or SamplingConfig(),
                batch_size=max(1, batch),
            )
        )

    def generate_request(self, request: GenerateRequest) -> list[Any]:
        """Return an output for each prompt, as a raw value without the prompt.

        A base with conditioning generates from what it is given; other bases continue the prompt.
        An output ends at any end of its modality or before a text of `stop`; both may be special
        tokens, which a prompt may hold too. An output with a grid is generated at once. Every
        prompt is generated as if alone (`Sampler` says from which seed). ConfigError if the base
        does not generate this, DataError if it cannot read a prompt.
        """
        must_stop(request.stop)
        generator = self._generator()
        conditioning = self.usage.conditioning
        space, codec = self.codec(self._generated(request.modality))
        grid = request.grid or self.usage.grids.get(space)
        outputs: list[Any] = []
        for first, chance, some in _batches(request, conditioning):
            if grid is not None:
                _must_be_nothing(space, some, conditioning)
            start, view = self._started(space, some, first)
            if grid is None:
                last = view.streams[-1]
                longest, new = self.config.max_length(space), request.max_new_tokens
                must_fit(space, longest, furthest(last), new)
                tokens: Iterable[Tensor] = following(last, new)
            else:
                first_B13 = view.streams[-1].segments[-1].position
                tokens = 1 + positions(grid)[:, None] + first_B13.transpose(0, 1)
            sample = request.sampling.build(chance)
            steps = generator.values(self.model, view, tokens, sample)
            outputs += drawn(steps, start, codec, request.stop, grid)
        return outputs

    def _generator(self) -> GeneratorConfig:
        """Return how the base generates; ConfigError if it does not."""
        if self.usage.generator is None:
            raise ConfigError(
                f"this base was pretrained with attention {self.usage.attention!r} and cannot"
                " generate; pretrain with --set objective.name=causal"
            )
        return self.usage.generator

    def _started(self, space: str, prompts: Sequence[Prompt], first: int = 0) -> Start:
        """Return the outputs of some prompts as far as they are given, and their view."""
        if self.usage.conditioning is None:
            return self._continued(space, prompts, first)
        return self._conditioned(self.usage.conditioning, space, prompts, first)

    def _generated(self, modality: str | None) -> str | None:
        """Return the modality that is generated; ConfigError if the base generates another."""
        conditioning = self.usage.conditioning
        target = None if conditioning is None else conditioning.target
        if target is not None and modality not in (None, target):
            raise ConfigError(f"this base generates {target!r} and not {modality!r}")
        return target or modality

    def _continued(self, space: str, prompts: Sequence[Prompt], first: int) -> Start:
        """Return prompts to be continued, with their attachments where they stand."""
        pattern, generator = self.attention_pattern(space), self.usage.generator
        if generator is not None and pattern != generator.attention:
            raise ConfigError(
                f"tokens of {space!r} have attention {pattern!r} in this base, which cannot"
                f" generate them; name another --modality"
            )
        start = self._begun(space, [prompt.value for prompt in prompts], first)
        return start, self._view(space, start, inside=[p.attachments for p in prompts])

    def _conditioned(
        self, conditioning: ConditioningConfig, space: str, prompts: Sequence[Prompt], first: int
    ) -> Start:
        """Return outputs to be continued, after what each is generated from."""
        given, begun = zip(*map(_given, prompts), strict=True)
        source, closed = conditioning.source or space, conditioning.closed
        segment = self.read(given, modality=source, closed=closed, first=first)
        start = self._begun(space, begun)
        return start, conditioning.prompt(segment, start)


def _given(prompt: Prompt) -> tuple[Any, Any]:
    """Return what an output is generated from, and the output as far as it is given."""
    if len(prompt.attachments) > 1:
        raise ConfigError(
            f"this base generates from one record: {len(prompt.attachments)} attachments are too"
            " many; make a prompt of each"
        )
    if prompt.attachments:
        return prompt.attachments[0], prompt.value
    if prompt.value is None:
        raise ConfigError(
            "this base generates from what it is given: add --prompt, --image or --audio,"
            " whichever it was trained on"
        )
    return prompt.value, None


def _must_be_nothing(
    space: str, prompts: Sequence[Prompt], conditioning: ConditioningConfig | None
) -> None:
    """Check that no output with a grid has a beginning; ConfigError otherwise."""
    begun = (p.value if conditioning is None else _given(p)[1] for p in prompts)
    if any(value is not None for value in begun):
        raise ConfigError(f"{space!r} is generated with its grid, from nothing: leave out --prompt")


def _batches(
    request: GenerateRequest, conditioning: ConditioningConfig | None
) -> Iterator[tuple[int, int, Sequence[Prompt]]]:
    """Yield prompts that are read side by side: the number of the first, its stream of chance.

    What is given with an attachment, and to a conditioning that is not batched, is read alone.
    """
    prompts, size = request.prompts, request.batch_size
    attached = conditioning is not None and any(prompt.attachments for prompt in prompts)
    alone = attached or (conditioning is not None and not conditioning.batched)
    for i in range(0, len(prompts), 1 if alone else size):
        yield i, 0 if alone else i, prompts[i : i + (1 if alone else size)]
