"""The model folder, in Hugging Face layout: config.json, model.safetensors, tokenizer.json.

A text decoder that is a Llama is written under Llama's names, so that transformers opens it in one
line; any other model under ours. What else we know stands in config.json under `broadbase`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from broadbase.core.contracts import Codec
from broadbase.core.errors import ConfigError, DataError, ResourceError
from broadbase.model.base import Base
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from broadbase.weights import llama
from broadbase.weights.architecture import published, translate

FORMAT = 1
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


def save(base: Base, folder: Path) -> None:
    """Write the model folder, whole or not at all; an older one at the place is replaced."""
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.draft")
    try:
        draft.mkdir(parents=True)
        config, tensors, rest = _layout(base)
        save_file(tensors, draft / SINGLE, metadata={"format": "pt"})
        if rest:
            save_file(rest, draft / "broadbase.safetensors")
        (draft / "config.json").write_text(json.dumps(config, indent=1))
        for name, codec in base.codecs.items():
            place = draft if len(base.codecs) == 1 else draft / "codecs" / name
            place.mkdir(parents=True, exist_ok=True)
            codec.save(place)
        for file in draft.rglob("*"):
            _sync(file)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    except (OSError, SafetensorError) as error:
        raise ResourceError(
            f"{folder} cannot be written: {error}; free space or permissions there"
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def load(folder: Path | str, device: str = "cpu") -> Base:
    """The base in a model folder, ours or a published one; DataError names what is wrong."""
    folder = Path(folder)
    config = _json(folder / "config.json")
    tensors = _tensors(folder)
    own = config.get("broadbase")
    if own is None:
        source = published(config)
        model_config, pattern = source.config, source.pattern
        tensors = translate(source, tensors, str(folder))
    else:
        if own["format"] > FORMAT:
            raise DataError(
                f"{folder} has format {own['format']}, this program reads up to {FORMAT}; upgrade"
                " Broadbase"
            )
        model_config, pattern = ModelConfig.from_tree(own["model"]), own["pattern"]
        if config["model_type"] == llama.MODEL_TYPE:
            links = llama.links(model_config, next(iter(model_config.modalities)))
            names = {link.theirs: link.ours for link in links}
            tensors = {names.get(name, name): tensor for name, tensor in tensors.items()}
    model = model_config.build()
    initialise(model, 0)
    found = model.load_state_dict(tensors, strict=False)
    # A vector for hidden places is ours: published decoders have none, and it stays at its init.
    missing = [n for n in found.missing_keys if own is not None or not n.endswith(".mask")]
    if missing or found.unexpected_keys:
        wrong = ", ".join([*missing, *found.unexpected_keys][:5])
        raise DataError(f"{folder}: tensors missing or unknown: {wrong}")
    spoken = (own or {}).get("codecs", list(model_config.modalities))
    codecs = {
        name: model_config.modalities[name].load(
            folder if len(spoken) == 1 else folder / "codecs" / name
        )
        for name in spoken
    }
    return Base(model_config, model.to(device).eval(), codecs, pattern)


def must_agree(base: Base, codecs: Mapping[str, Codec], config: ModelConfig, place: str) -> None:
    """ConfigError, which names the `place`, where the base does not encode as these codecs do."""
    for name, codec in codecs.items():
        if name not in base.codecs:
            known = ", ".join(base.codecs)
            raise ConfigError(f"{place}: its base has no modality {name!r}; it has: {known}")
        alike = base.config.modalities[name] == config.modalities[name]
        if not alike or _files(codec) != _files(base.codecs[name]):
            raise ConfigError(
                f"{place}: its codec of {name!r} is not this run's, and one id would mean two"
                " things; pretrain both from one --store, with the same settings of the modality"
            )


def _files(codec: Codec) -> dict[str, bytes]:
    """What a codec saves, file by file: equal for codecs that encode alike."""
    with tempfile.TemporaryDirectory() as name:
        codec.save(Path(name))
        return {str(p.relative_to(name)): p.read_bytes() for p in Path(name).rglob("*.*")}


def _layout(base: Base) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """config.json, the tensors under the layout's names, and those the layout has no place for."""
    own = {
        "format": FORMAT,
        "model": base.config.tree(),
        "pattern": base.pattern,
        "codecs": list(base.codecs),
    }
    state = {k: v.detach().cpu().contiguous().clone() for k, v in base.model.state_dict().items()}
    codec = next(iter(base.codecs.values()))
    end = None if codec.end is None or codec.end.ndim else int(codec.end)
    start = 0 if codec.start.ndim else int(codec.start)
    config = llama.write(base.config, start, end) if base.pattern == "causal" else None
    if config is None:
        return {"model_type": "broadbase", "broadbase": own}, state, {}
    links = llama.links(base.config, next(iter(base.config.modalities)))
    names = {link.ours: link.theirs for link in links}
    tensors = {names[name]: tensor for name, tensor in state.items() if name in names}
    rest = {name: tensor for name, tensor in state.items() if name not in names}
    return {**config, "broadbase": own}, tensors, rest


def _tensors(folder: Path) -> dict[str, Tensor]:
    if (folder / INDEX).exists():
        files = sorted(set(_json(folder / INDEX)["weight_map"].values()))
    elif (folder / SINGLE).exists():
        files = [SINGLE]
    else:
        pickles = sorted(p.name for p in folder.glob("*") if p.suffix in (".bin", ".pt", ".pth"))
        why = f"{', '.join(pickles)} can run code when opened" if pickles else "no weights in it"
        raise DataError(f"{folder} has no {SINGLE} ({why}); convert the weights to safetensors")
    if (folder / "broadbase.safetensors").exists():
        files.append("broadbase.safetensors")
    tensors: dict[str, Tensor] = {}
    for name in files:
        try:
            tensors |= load_file(folder / name)
        except (OSError, SafetensorError) as error:
            raise DataError(f"{folder / name} cannot be read: {error}; copy it again") from None
    return tensors


def _json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}; is this a model folder?"
        ) from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}; copy it again") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no JSON object; copy it again")
    return content


def _sync(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
