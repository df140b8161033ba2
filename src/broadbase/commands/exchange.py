"""The two commands of open weights: `import` and `export`."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from math import ceil, inf
from pathlib import Path
from typing import Annotated, Any

import typer

from broadbase.commands.options import app
from broadbase.core.errors import ConfigError
from broadbase.core.files import draft_file, draft_folder, sweep
from broadbase.core.terminal import echo
from broadbase.inference.base import Base
from broadbase.weights.companions import write_beside
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
from broadbase.weights.match import why_not
from broadbase.weights.parity import BAR, differences
from broadbase.weights.shards import write_file


class Form(StrEnum):
    """What a base leaves as."""

    hf = "hf"
    gguf = "gguf"
    safetensors = "safetensors"


@app.command("import")
def import_weights(
    place: Annotated[str, typer.Argument(help="A model folder, or OWNER/NAME on the hub.")],
    to: Annotated[Path | None, typer.Option(help="Where to write it as our model folder.")] = None,
    check: Annotated[bool, typer.Option(help="Compare with transformers.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Read published weights: say what they are, and whether they compute what they should."""
    folder = model_folder(folder_of(place))
    to = to and to.expanduser()
    if to is not None and to.resolve() == folder.resolve():
        raise ConfigError(f"--to {to} is the folder that is read; name another")
    if to is not None:
        must_be_free(to)
    base = load(folder)
    found: dict[str, Any] = {"model": place, **described(base)}
    if check:
        found["checked"] = differences(folder)
    if to is not None:
        save(base, to)
        found["written"] = str(to)
    echo(json.dumps(found) if as_json else _lines(found))
    if not all(row["equal"] for row in found.get("checked", ())):
        sys.exit(1)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A run's folder or a model folder.")],
    form: Annotated[Form, typer.Option("--to", help="For whom.")],
    out: Annotated[Path, typer.Option(help="The folder or file to write.")],
    shard: Annotated[
        float | None, typer.Option(min=0.0, help="hf: the most GB of a file [5, or as it came].")
    ] = None,
) -> None:
    """Write a base for others: a folder that transformers opens, GGUF, or its bare tensors."""
    out = out.expanduser()
    if form is not Form.hf and out.suffix != f".{form}":
        out = out.with_name(f"{out.name}.{form}")
    sweep(out.parent)  # of what a killed export left beside a whole result
    if out.exists() or out.is_symlink():
        raise ConfigError(f"{out} is there already; name another --out")
    if shard is not None and not 0 < shard < inf:
        raise ConfigError(f"--shard {shard} is no size in GB; give a number above 0")
    base = load(model)
    match form:
        case Form.hf:
            if layout(base)[0]["model_type"] == "broadbase":
                raise ConfigError(f"{model}: {why_not(base)}")
            with draft_folder(out) as draft:
                write(base, draft, None if shard is None else ceil(shard * 10**9))
                write_beside(base, draft, described(base))
        case Form.gguf:
            write_gguf(base, out)
        case Form.safetensors:
            state = {k: v.contiguous().clone() for k, v in base.model.state_dict().items()}
            with draft_file(out) as draft:
                write_file(state, draft, {"config": json.dumps(base.config.tree())})
    echo(str(out))


def described(base: Base) -> dict[str, Any]:
    """What a base is, in a few words."""
    parameters = list(base.model.parameters())
    kept = base.origin.kept if base.origin else {}
    return {
        "type": base.origin.config["model_type"] if base.origin else "broadbase",
        "parameters": sum(p.numel() for p in parameters),
        "stored as": ", ".join(sorted({str(p.dtype).removeprefix("torch.") for p in parameters})),
        "modalities": ", ".join(base.codecs),
        "towers": ", ".join(
            f"{name} of width {tower.width}" for name, tower in base.config.towers.items()
        ),
        "pattern": base.pattern,
        "kept, not used": len(kept),
    }


def _lines(found: dict[str, Any]) -> str:
    rows = found.pop("checked", [])
    lines = [f"{name + ':':16} {value}" for name, value in found.items()]
    for row in rows:
        verdict = "equal" if row["equal"] else "DIFFERENT"
        lines.append(
            f"{row['inputs']} inputs: {row['compared']} differ by {row['difference']:.2e} of the"
            f" largest (bar {BAR:g}): {verdict}"
        )
    return "\n".join(lines)
