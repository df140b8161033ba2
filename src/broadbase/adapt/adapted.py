"""A base adapted to one task: records in, labels out; saved as a folder and loaded from it.

FOLDER/adapted.json       the task, the method, the classes in order, the base and its hash, scores
FOLDER/learned.safetensors    what the method learned
FOLDER/model/             the base, where the method trained it, or where it was copied

Legend: M records, K columns of outputs.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import GenericAlias
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from broadbase.adapt.bases import base_hash, located, open_base
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.method import Fitted, MethodConfig
from broadbase.adapt.openai_client import endpoint_address
from broadbase.adapt.reading import reader
from broadbase.adapt.target import Calibration, Outputs, Target
from broadbase.core.errors import BroadbaseError, DataError
from broadbase.core.files import draft_folder, read_json, refuse_foreign
from broadbase.core.sources import Pair
from broadbase.weights import folder as model_folders
from broadbase.weights.samples import sample_name

FORMAT = 1
DESCRIPTION, LEARNED, MODEL = "adapted.json", "learned.safetensors", "model"


@dataclass(frozen=True)
class Adapted:
    """A base adapted to one task."""

    task: str
    modality: str
    target: Target
    method: MethodConfig
    fitted: Fitted
    calibration: Calibration
    per_token: bool = False
    card: Mapping[str, Any] = field(default_factory=dict)  # what was read, and the scores
    paired: bool = False

    def predict(self, records: Sequence[Any]) -> Sequence[dict[str, Any]]:
        """Return what is predicted of each record as a row of named plain values.

        A class has its probability and those of all classes; a number has the ends of the interval
        that covers 9 of 10 records. Where tokens are labelled, a row has lists with an item for
        each token. A pair is a list or a tuple of two. DataError names the first that is no record
        of the modality.
        """
        read = reader(self.fitted.base, self.modality)
        records = [_pair(i, record) for i, record in enumerate(records)] if self.paired else records
        raws = [_cleaned(read, i, record) for i, record in enumerate(records)]
        return self.rows(raws, self.outputs(raws)) if raws else []

    def outputs(self, raws: Sequence[Any]) -> Outputs:
        """Return the outputs [M,K] of cleaned records, or of all their tokens in order."""
        return self.fitted.outputs(Inputs(raws, per_token=self.per_token))

    def rows(self, raws: Sequence[Any], outputs: Outputs) -> Sequence[dict[str, Any]]:
        """Return the outputs [M,K] of cleaned records as a row for each record."""
        rows = self.target.rows(outputs, self.calibration)
        if not self.per_token:
            return self.fitted.annotated(raws, rows)
        codec = self.fitted.base.codec(self.modality)[1]
        ends = np.cumsum([0, *(len(codec.encode(raw).values) for raw in raws)])
        parts = [rows[a:b] for a, b in itertools.pairwise(ends)]
        return [{name: [row[name] for row in part] for name in part[0]} for part in parts]

    @property
    def columns(self) -> Mapping[str, Any]:
        """The names of the values of a row, each with its type: str, float, or a list of these."""
        row = self.target.rows(np.zeros((1, self.target.columns)), self.calibration)[0]
        types = {name: _type(value) for name, value in row.items()}
        types = {name: _list(kind) if self.per_token else kind for name, kind in types.items()}
        return {**types, **self.fitted.columns}


def _type(value: Any) -> Any:
    """Return the type of a value; that of a list with the type of its items, words by default."""
    if isinstance(value, list):
        return _list(type(value[0]) if value else str)
    return type(value)


def _list(kind: Any) -> Any:
    """Return the type list[kind]."""
    return GenericAlias(list, (kind,))


def _pair(number: int, record: Any) -> Pair:
    if not isinstance(record, list | tuple) or len(record) != 2:
        raise DataError(f"record {number} is no pair; give two items, as (question, answer)")
    return Pair(*record)


def _cleaned(read: Any, number: int, record: Any) -> Any:
    try:
        return read(record)
    except BroadbaseError:
        raise
    except (TypeError, ValueError) as error:
        raise DataError(f"record {number} cannot be read: {error}") from None


def save_adapted(adapted: Adapted, folder: Path, base: Path, copy: bool = False) -> None:
    """Write the folder of an adapted base completely, or not at all.

    The base that was read from the model folder `base` is named with its hash, unless the method
    trained it, or `copy` is set: then the folder holds one. ConfigError as `must_be_free`.
    """
    selection = adapted.fitted.selection
    own = (selection.method if selection else adapted.method).saves_base
    description = {
        "format": FORMAT,
        "broadbase": metadata.version("broadbase"),
        "task": adapted.task,
        "modality": adapted.modality,
        "per_token": adapted.per_token,
        "paired": adapted.paired,
        "target": adapted.target.tree(),
        "method": adapted.method.tree(),
        "facts": dict(adapted.fitted.facts),
        "calibration": dict(adapted.calibration),
        "parameters": adapted.fitted.parameters,
        "base": {
            "path": located(base),
            "sha256": base_hash(base),
            "copied": own or copy,
        },
        "card": dict(adapted.card),
    }
    arrays = {k: np.ascontiguousarray(v) for k, v in adapted.fitted.arrays().items()}
    with draft_folder(folder, written_here) as draft:
        (draft / DESCRIPTION).write_text(json.dumps(description, indent=1))
        save_file(arrays, draft / LEARNED)
        if own or copy:
            model_folders.save(adapted.fitted.stored_base, draft / MODEL)


def load_adapted(folder: Path | str, device: str = "cpu") -> Adapted:
    """Return the adapted base of a folder; DataError where it, or its base, is gone or changed."""
    folder = Path(folder).expanduser()
    description = described(folder)
    base = open_base(base_folder(folder, description), device)
    target = Target.from_tree(description["target"])
    method = MethodConfig.from_tree(description["method"])
    encoder = Encoder(base, description["modality"])
    arrays = load_file(folder / LEARNED)
    return Adapted(
        task=description["task"],
        modality=description["modality"],
        target=target,
        method=method,
        fitted=method.restore(encoder, target, arrays, description["facts"]),
        calibration=description["calibration"],
        per_token=description["per_token"],
        paired=description.get("paired", False),
        card=description["card"],
    )


def described(folder: Path) -> dict[str, Any]:
    """Return what adapted.json says; DataError where it is gone, or of another format."""
    description = read_json(folder / DESCRIPTION, "is this the folder of an adapted base?")
    if description.get("format") != FORMAT:
        raise DataError(
            f"{folder / DESCRIPTION} has format {description.get('format')!r}, and this version of"
            f" Broadbase reads format {FORMAT}; adapt the base again"
        )
    return description


def must_be_free(folder: Path) -> None:
    """ConfigError where `save_adapted` would erase more than a folder that it wrote."""
    refuse_foreign(folder, written_here)


def written_here(folder: Path) -> bool:
    """Return whether a folder is that of an adapted base."""
    names = {path.name for path in folder.iterdir()}
    return DESCRIPTION in names and names <= {DESCRIPTION, LEARNED, MODEL}


def base_folder(folder: Path, description: Mapping[str, Any]) -> Path:
    """Return the folder of the base of an adapted one; DataError where it is gone or changed."""
    base = description["base"]
    if base["copied"]:
        return folder / MODEL
    path = Path(base["path"])
    if not (sample_name(path) or endpoint_address(path) or path.exists()):
        raise DataError(
            f"{folder} was made from the base {path}, which is gone; put it back, or adapt again"
            " with --copy-base"
        )
    if base_hash(path) != base["sha256"]:
        raise DataError(
            f"{folder} was made from the base {path}, whose files have changed since; put the old"
            " ones back, or adapt again"
        )
    return path
