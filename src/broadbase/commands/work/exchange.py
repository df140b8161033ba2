"""The work of `import`, `export` and `bases`: open weights in and out."""

from __future__ import annotations

import json
import sys
from math import ceil
from pathlib import Path
from typing import Any

from broadbase.adapt.adapted import DESCRIPTION, load_adapted
from broadbase.adapt.adapted import described as description_of
from broadbase.commands.options import Form, log, show
from broadbase.core.errors import ConfigError
from broadbase.core.files import draft_file, draft_folder, sweep
from broadbase.core.terminal import echo
from broadbase.inference.base import Base
from broadbase.nn.adapters.adapter import AdapterWeights
from broadbase.weights.companions import write_companions
from broadbase.weights.folder import (
    layout,
    load,
    model_folder,
    must_be_free,
    save,
    write,
)
from broadbase.weights.gguf import write_gguf
from broadbase.weights.hub import folder_of
from broadbase.weights.match import explain_mismatch
from broadbase.weights.parity import BAR, differences
from broadbase.weights.peft import is_adapter, read_adapter, with_adapter, write_adapter
from broadbase.weights.samples import table
from broadbase.weights.shards import write_file

FILES = (Form.gguf, Form.safetensors)  # the forms that are one file


def bases(as_json: bool) -> None:
    """Print the sample bases."""
    columns = ("name", "reads", "holds", "from", "sha256", "megabytes", "licence", "cached")
    show(table(), columns, as_json, "sample bases: sample:NAME for a model folder")


def import_weights(
    origin: str, to: Path | None, base_origin: str | None, check: bool, as_json: bool
) -> None:
    """Print what published weights are; compare them with transformers, write them to `to`.

    An adapter is read for its base, which is written with the adapter merged. The exit code is 1
    where weights do not compute the same.
    """
    folder = model_folder(folder_of(origin))
    to = to and to.expanduser()
    if to is not None and to.resolve() == folder.resolve():
        raise ConfigError(f"--to {to} is the folder that is read; name another")
    if to is not None:
        must_be_free(to)
    summary: dict[str, Any] = {"model": origin}
    if base_origin is None and not is_adapter(folder):
        base = load(folder)
    else:
        base, weights = _with_adapter(folder, base_origin, check)
        summary |= {"adapter": weights.config.name, "adapted maps": len(weights.maps)}
    summary |= described(base)
    if check:
        summary["checked"] = differences(folder)
    if to is not None:
        save(base, to)
        summary["written"] = str(to)
    echo(json.dumps(summary) if as_json else _lines(summary))
    if not all(row["equal"] for row in summary.get("checked", ())):
        sys.exit(1)


def export(model: Path, form: Form, out: Path, shard: float | None) -> None:
    """Write a base as `form` to `out`, and print where; of hf, files of `shard` GB at most."""
    out = out.expanduser()
    if form in FILES and out.suffix != f".{form}":
        out = out.with_name(f"{out.name}.{form}")
    sweep(out.parent)  # of what a killed export left next to a complete result
    if out.exists() or out.is_symlink():
        raise ConfigError(f"{out} is there already; name another --out")
    if form is Form.peft:
        _export_adapter(model, out)
        return
    base = _trained(model)
    match form:
        case Form.hf:
            if layout(base)[0]["model_type"] == "broadbase":
                raise ConfigError(f"{model}: {explain_mismatch(base)}")
            with draft_folder(out) as draft:
                write(base, draft, None if shard is None else ceil(shard * 10**9))
                write_companions(base, draft, described(base))
        case Form.gguf:
            write_gguf(base, out)
        case Form.safetensors:
            state = {k: v.contiguous().clone() for k, v in base.model.state_dict().items()}
            with draft_file(out) as draft:
                write_file(state, draft, {"config": json.dumps(base.config.tree())})
    echo(str(out))


def _with_adapter(
    folder: Path, base_origin: str | None, check: bool
) -> tuple[Base, AdapterWeights]:
    """Return a base with the adapter in a folder merged, and the adapter."""
    if base_origin is None:
        raise ConfigError(f"{folder} is an adapter; name the base it was made for with --base")
    if check:
        raise ConfigError("--check compares models, not adapters; leave it out")
    base = load(model_folder(folder_of(base_origin)))
    weights = read_adapter(folder, base)
    return with_adapter(base, weights), weights


def _trained(model: Path) -> Base:
    """Return the base of a model folder, or the one that `adapt` trained."""
    if not (model / DESCRIPTION).exists():
        return load(model)
    adapted = load_adapted(model)
    if not (adapted.fitted.trained or adapted.fitted.adapter):
        raise ConfigError(
            f"{model}: {adapted.method.name} did not train the base; export the base that it uses"
        )
    return adapted.fitted.base


def _export_adapter(model: Path, out: Path) -> None:
    """Write the adapters of an adapted base as PEFT's files, and print where."""
    fitted = load_adapted(model).fitted
    if fitted.adapter is None:
        raise ConfigError(f"{model} has no adapters; learn some with adapt --method lora")
    write_adapter(fitted.adapter, fitted.stored_base, out, description_of(model)["base"]["path"])
    log.say("PEFT's files hold the adapters; a head of labels is in the adapted base alone")
    echo(str(out))


def described(base: Base) -> dict[str, Any]:
    """Describe a base in a few words."""
    parameters = list(base.model.parameters())
    kept = base.origin.unused_tensors if base.origin else {}
    return {
        "type": base.origin.config["model_type"] if base.origin else "broadbase",
        "parameters": sum(p.numel() for p in parameters),
        "stored as": ", ".join(sorted({str(p.dtype).removeprefix("torch.") for p in parameters})),
        "modalities": ", ".join(base.codecs),
        "towers": ", ".join(
            f"{name} of width {tower.width}" for name, tower in base.config.towers.items()
        ),
        "pattern": base.usage.attention,
        "kept, not used": len(kept),
    }


def _lines(summary: dict[str, Any]) -> str:
    rows = summary.pop("checked", [])
    lines = [f"{name + ':':16} {value}" for name, value in summary.items()]
    for row in rows:
        verdict = "equal" if row["equal"] else "DIFFERENT"
        lines.append(
            f"{row['inputs']} inputs: {row['compared']} differ by {row['difference']:.2e} of the"
            f" largest (at most {BAR:g} is allowed): {verdict}"
        )
    return "\n".join(lines)
