"""Rows that are drawn side by side, each to its own end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from broadbase.core.codec import Codec
from broadbase.core.errors import ConfigError
from broadbase.core.view import Segment

Values = Sequence[NDArray[Any]]
CUT = "\N{REPLACEMENT CHARACTER}"  # what a part of a character is decoded to
TAIL = 8  # ids of a prompt that are decoded again with each new one, at least


def must_stop(stop: Sequence[str]) -> None:
    """Check that no text to stop at is empty; ConfigError otherwise."""
    if isinstance(stop, str) or not all(stop):
        raise ConfigError(
            "`stop` must be a list of texts that are not empty: an empty one is in every text"
        )


def drawn(
    steps: Iterator[Tensor],
    prompt: Segment,
    codec: Codec,
    stop: Sequence[str] = (),
    grid: tuple[int, ...] | None = None,
) -> list[Any]:
    """Return the output of each row after its `prompt`, as a raw value.

    It goes up to any end of its modality or a text of `stop`, which are left out; one with a grid
    is complete.
    """
    before = _rows(prompt)
    outputs: list[list[NDArray[Any]]] = [[] for _ in before]
    live = [*range(len(before))]
    columns = (values[:, i] for values in steps for i in range(values.shape[1]))
    for column in columns:
        new = column.cpu().numpy()
        for row in [*live]:
            if grid is None and is_end(codec, new[row]):
                live.remove(row)
                continue
            outputs[row].append(new[row])
            if stop and _stopped(codec, before[row], outputs[row], stop):
                live.remove(row)
        if not live:
            break
    rows = zip(before, outputs, strict=True)
    if grid is not None:
        return [codec.decode(np.array([*b[1:], *row]), grid) for b, row in rows]
    return [_decoded(codec, b, row, stop) for b, row in rows]


def _rows(prompt: Segment) -> list[NDArray[Any]]:
    """Return the values of each row of a prompt, without padding."""
    rows = prompt.values.cpu().numpy()
    if prompt.document is None:
        return list(rows)
    return [row[real] for row, real in zip(rows, prompt.document.numpy() >= 0, strict=True)]


def _decoded(codec: Codec, before: NDArray[Any], values: Values, stop: Sequence[str]) -> Any:
    """Decode the values of a row after those `before` them, up to a `stop`."""
    text = _text(codec, before, values)
    if ends := [text.index(s) for s in stop if s in text]:
        return text[: min(ends)]
    spelled = _text(codec, before, values, special=True) if stop else ""
    ends = [spelled.index(s) for s in stop if s in spelled]
    return _until(codec, before, values, min(ends)) if ends else text


def _until(codec: Codec, before: NDArray[Any], values: Values, end: int) -> str:
    """Return the text before a position in the text with special tokens."""
    spelled = [_text(codec, before, values[:n], special=True) for n in range(len(values) + 1)]
    n = max(n for n, text in enumerate(spelled) if len(text) <= end)
    inside = "" if codec.is_special(int(values[n])) else spelled[n + 1][len(spelled[n]) : end]
    return str(_text(codec, before, values[:n])) + inside


def is_end(codec: Codec, value: NDArray[Any]) -> bool:
    """Return whether a generated value ends its record."""
    if codec.ends:
        return int(value) in codec.ends
    return codec.end is not None and bool(np.all(value == codec.end))


def _stopped(codec: Codec, before: NDArray[Any], values: Values, stop: Sequence[str]) -> bool:
    """Return whether a row has a text of `stop`, special tokens spelled or left out."""
    texts = [_text(codec, before, values, special) for special in (False, True)]
    return any(s in text for s in stop for text in texts)


def _text(codec: Codec, before: NDArray[Any], values: Values, special: bool = False) -> Any:
    """Decode values after others; only codecs of a tokenizer have special tokens."""
    return codec.continuation(before, np.array(values), special)


class Speller:
    """The text of a row of ids as it grows, never a part of a character or of a text to stop at."""

    def __init__(self, codec: Codec, prompt: Sequence[int], stop: Sequence[str] = ()) -> None:
        """Start after the ids of a prompt; end at the texts of `stop`."""
        self.codec, self.before, self.stop = codec, _tail(codec, np.array(prompt)), stop
        self.values: list[NDArray[Any]] = []
        self.text = ""  # what was returned so far

    def add(self, token: int) -> tuple[str, bool]:
        """Return what an id adds to the text, and whether the row ends with it."""
        value = np.array(token)
        if is_end(self.codec, value):
            return self.rest(), True
        self.values.append(value)
        if self.stop and _stopped(self.codec, self.before, self.values, self.stop):
            return self.rest(), True
        text = str(_text(self.codec, self.before, self.values)).rstrip(CUT)
        if self.stop:
            spelled = str(_text(self.codec, self.before, self.values, special=True))
            held = max(_begun(each, self.stop) for each in (text, spelled))
            text = text[: len(text) - held]
        return self._more(text), False

    def rest(self) -> str:
        """Return what was held back, at the end of the row."""
        return self._more(str(_decoded(self.codec, self.before, self.values, self.stop)))

    def _more(self, text: str) -> str:
        new = text[len(self.text) :] if text.startswith(self.text) else ""
        self.text += new
        return new


def _tail(codec: Codec, prompt: NDArray[Any]) -> NDArray[Any]:
    """Return the last ids of a prompt, so many that its text is theirs after that of the others.

    What follows a prompt is then written as after its tail, which is quicker to decode.
    """
    if codec.tokenizer is None:
        return prompt
    for n in range(TAIL, min(len(prompt), 2 * TAIL)):
        if all(_is_apart(codec, prompt[:-n], prompt[-n:], special) for special in (False, True)):
            return prompt[-n:]
    return prompt


def _is_apart(codec: Codec, head: NDArray[Any], tail: NDArray[Any], special: bool) -> bool:
    """Return whether ids are written the same with those before them and without."""
    nothing = tail[:0]
    text = codec.continuation(nothing, tail, special)
    return CUT not in text and bool(codec.continuation(head, tail, special) == text)


def _begun(text: str, stop: Sequence[str]) -> int:
    """Return how many characters at the end of a text may begin one of `stop`."""
    longest = max(map(len, stop))
    sizes = range(min(longest, len(text)), 0, -1)
    return next((n for n in sizes if any(s.startswith(text[-n:]) for s in stop)), 0)
