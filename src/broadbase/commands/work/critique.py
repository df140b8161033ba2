"""The work of `critique`: preferences of a base over its own answers and their revisions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from broadbase.commands.options import log
from broadbase.commands.work.generate import must_chat, read_prompts
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.files import write_text
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.critique import Principle, revise
from broadbase.weights.folder import load


def critique(
    model: Path,
    prompts: Path,
    principles: Path,
    out: Path,
    max_new_tokens: int,
    sampling: Mapping[str, Any],
) -> None:
    """Write the pairs of a base to `out`, and say how many there are and how many are revisions."""
    if out.exists():
        raise ConfigError(f"{out} is there already; name another --out")
    rules = read_principles(principles)
    texts = read_prompts((), prompts)
    base = load(model)
    must_chat(base, texts)
    sampled = SamplingConfig.from_tree(sampling)
    revised = list(revise(base, texts, rules, max_new_tokens=max_new_tokens, sampling=sampled))
    pairs = [one.preference() for one in revised if one.usable]
    if not pairs:
        raise DataError(
            f"{model} gave no pair: its answers are empty, or its revisions are equal to them; take"
            " a higher --temperature, or a base that has learned to revise"
        )
    write_text(out, "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs))
    better = sum(pair["revised"] for pair in pairs)
    log.say(
        f"{len(pairs)} pairs of {len(texts)} prompts in {out}; in {better} the revision is"
        f" preferred; {len(texts) - len(pairs)} prompts gave none"
    )


def read_principles(file: Path) -> list[Principle]:
    """Return the principles of a file of JSON lines; DataError names the line that is none."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}; name a file of JSON lines") from None
    rules = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rules.append(Principle.from_tree(json.loads(line)))
        except (ValueError, TypeError) as error:
            raise DataError(f"{file}:{number}: no principle: {error}") from None
    if not rules:
        raise DataError(f"{file} holds no principle; write one a line, as JSON")
    return rules
