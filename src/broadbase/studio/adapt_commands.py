"""The commands that the pages of Adapt start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from broadbase.adapt.kinds import GENERATION, KINDS, PER_TOKEN
from broadbase.core.errors import ConfigError
from broadbase.studio.bases import Bases
from broadbase.studio.kept import Card
from broadbase.studio.tables import Table, check, guess_field, look
from broadbase.studio.uploads import Upload
from broadbase.weights.samples import SAMPLE_BASES, SCHEME, sample_name

METHODS = {
    "auto": "choose by cross-validation (recommended)",
    "centroids": "class centroids: for few labels",
    "probe": "linear probe: for many labels",
    "knn": "nearest neighbours",
    "names": "the names of the classes, no labels",
    "finetune": "finetune the whole base: slow",
}
TEXTUAL = ("text", "code", "bytes", "tokens")  # kinds of modalities


@dataclass(frozen=True)
class Choices:
    """What the user chose on the page of a table."""

    field: str
    label: str
    second: str
    kind: str
    base: str
    method: str


def best_base(bases: Bases) -> str:
    """Return the base to begin with: one that was named, a published one, or the newest run."""
    usable = {each.name: each for each in bases.usable()}
    texts = [name for name, each in usable.items() if set(each.modalities.values()) & {*TEXTUAL}]
    names = [
        *(name for name in texts if name in bases.given),
        *(name for name in texts if sample_name(name)),
        *texts,
        *usable,
    ]
    return next(iter(names), f"{SCHEME}minilm")


def downloads(bases: Bases) -> dict[str, str]:
    """Return the published bases of text that are not here yet, with what they take."""
    return {
        SCHEME + name: f"{base.summary}; {base.megabytes} MB are downloaded first"
        for name, base in SAMPLE_BASES.items()
        if SCHEME + name not in bases.names() and base.reads == "text"
    }


def adapt_command(
    upload: Upload, table: Table, choice: Choices, bases: Bases, out: Path
) -> Sequence[str]:
    """Return the command that adapts a base; ConfigError names what does not fit."""
    for what, name in (("Text", choice.field), ("Label", choice.label)):
        if name not in table.names:
            raise ConfigError(f"{what}: choose one of the columns {', '.join(table.names)}")
    if choice.field == choice.label:
        raise ConfigError("the text and the label are one column; choose two")
    if choice.kind and choice.kind not in KINDS:
        raise ConfigError(f"there is no kind of labels {choice.kind[:40]!r}")
    if choice.method not in METHODS:
        raise ConfigError(f"there is no method {choice.method[:40]!r}")
    path = choice.base
    if path not in downloads(bases):
        path = bases.describe(choice.base).path
    label_kind = choice.kind
    if not label_kind:
        checked = check(upload, choice.field, choice.label, None)
        if checked.error:
            raise ConfigError(checked.error)
        label_kind = checked.kind
    words = ["adapt", path, "--data", str(upload.path), "--field", choice.field]
    words += ["--label", choice.label, "--method", choice.method, "--no-baselines"]
    if choice.second:
        words += ["--second", choice.second]
    if choice.kind:
        words += ["--kind", choice.kind]
    if not choice.second and label_kind not in (GENERATION.name, PER_TOKEN.name):
        words.append("--few-labels")
    return [*words, "--out", str(out), "--json"]


def result_command(
    what: str, card: Card, upload: Upload | None, out: Path, kind: str
) -> tuple[Sequence[str], str]:
    """Return the command that predicts, doubts or suggests, and a note on the columns it reads."""
    field, note = card.read.get("field", "text"), ""
    if upload is not None:
        names = look(upload).names
        if field not in names:
            guessed, _ = guess_field(look(upload))
            if not guessed or card.description.get("paired"):
                raise ConfigError(
                    f"{upload.name} has no column {field!r}, which the base learned from; it has"
                    f" {', '.join(names)}: rename one of them to {field}"
                )
            note = f"there is no column {field!r}; {guessed!r} is read in its place"
            field = guessed
    data = card.read.get("data", "")
    if what == "predict" and upload is not None:
        words = ["predict", str(card.folder), "--data", str(upload.path), "--out", str(out)]
        return [*words, "--field", field], note
    if what == "suggest" and upload is not None:
        base = str(card.description["base"]["path"])
        words = ["suggest", base, "--unlabelled", str(upload.path), "--field", field]
        if field == card.read.get("field"):
            words += ["--data", data, "--label", card.read.get("label", "label")]
        return [*words, "--json"], note
    words = ["doubts", str(card.folder), "--data", data, *(["--kind", kind] if kind else [])]
    return [*words, "--json"], note
