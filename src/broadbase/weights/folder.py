"""The model folder, in Hugging Face layout: config.json, model.safetensors, tokenizer.json.

A published model is written as it came, byte for byte where nothing was trained. A model trained
here that is one of a published family (`out.py`) is written under the family's names, so that
transformers opens it in one line; any other under ours. What we know of it stands in config.json
under `broadbase`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from broadbase.core.codec import Codec
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.files import draft_folder, read_json, refuse_foreign
from broadbase.core.formats import FORMAT
from broadbase.core.usage import Usage
from broadbase.inference.base import Base
from broadbase.inference.usages import plain_usage
from broadbase.model.model import ModelConfig
from broadbase.nn.adapters.mixed import must_be_plain
from broadbase.weights import convert
from broadbase.weights.companions import write_tokenizers
from broadbase.weights.field_types import errors_of
from broadbase.weights.fold_norm import folded
from broadbase.weights.mapping import ImportedModel
from broadbase.weights.mask_token import masked
from broadbase.weights.match import FamilyMatch, explain_mismatch, matches
from broadbase.weights.native import NativeModel
from broadbase.weights.reading import opened, published, settings, trained_here, with_codecs
from broadbase.weights.samples import sample_base, sample_name
from broadbase.weights.shards import LIMIT, LazyTensor, cut
from broadbase.weights.shards import write as write_tensors
from broadbase.weights.special_tokens import spoken
from broadbase.weights.tensors import OURS

WRITTEN = "broadbase.json"  # the files of a folder that `save` wrote, and their sizes


def save(base: Base, folder: Path, limit: int | None = None) -> None:
    """Write the model folder in full or not at all; an older one of the same path is replaced.

    Weights of more than `limit` bytes are cut into several files with an index. Without a limit,
    those of a published folder keep its files, and others are cut as the hub does it. ConfigError
    as `must_be_free`; ResourceError if the disk is full.
    """
    with draft_folder(folder, written_here) as draft:
        write(base, draft, limit)
        (draft / WRITTEN).write_text(json.dumps(_sizes(draft), indent=1, sort_keys=True))


def must_be_free(folder: Path) -> None:
    """Check that `save` would erase nothing but a model folder that it wrote; else ConfigError.

    `save` does it too; call this before hours of work.
    """
    refuse_foreign(folder, written_here)


def written_here(folder: Path) -> bool:
    """Return whether `save` wrote a folder, and nothing in it was added or changed since."""
    try:
        sizes = _sizes(folder)
        sizes.pop(WRITTEN, None)
        return sizes == read_json(folder / WRITTEN)
    except DataError:
        return False


def _sizes(folder: Path) -> dict[str, int]:
    """Return the size of every file of a folder in bytes; 0 for what is no file."""
    items = [item for item in folder.rglob("*") if item.is_symlink() or not item.is_dir()]
    return {str(p.relative_to(folder)): p.stat().st_size if p.is_file() else 0 for p in items}


def write(base: Base, folder: Path, limit: int | None = None) -> None:
    """Write the files of a model folder into an empty folder, as `save` does."""
    config, tensors, rest = layout(base)
    original = base.origin.names if base.origin and limit is None else {}
    same = original.keys() == tensors.keys()
    files = original if same else cut(tensors, limit or LIMIT)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    for name, codec in base.codecs.items():
        own = folder if len(base.codecs) == 1 else folder / "codecs" / name
        own.mkdir(parents=True, exist_ok=True)
        _keep(codec, own)
    for name, content in (base.origin.files if base.origin else {}).items():
        (folder / name).write_bytes(content)
    if base.origin is None and config["model_type"] != "broadbase":
        write_tokenizers(base, folder, config)
    write_tensors({**tensors, **rest}, {**files, **dict.fromkeys(rest, OURS)}, folder)


def _keep(codec: Codec, folder: Path) -> None:
    """Write a codec's files; OSError if the disk is full, also inside the tokenizers library."""
    try:
        codec.save(folder)
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise OSError(str(error)) from None


def model_folder(path: Path | str) -> Path:
    """Return the model folder of a run or of "sample:NAME", or `path` itself.

    A sample base is fetched if it is not in the cache. DataError if that fails, or if the run is
    not finished.
    """
    if name := sample_name(path):
        return sample_base(name).folder()
    folder = Path(path).expanduser()
    if not (folder / "config.yaml").exists() or (folder / "config.json").exists():
        return folder
    if not (folder / "model").exists():
        raise DataError(
            f"{folder} is a run that is not finished; `broadbase resume {folder}` first"
        )
    return folder / "model"


def load(folder: Path | str, device: str = "cpu") -> Base:
    """Return the base of a run, a model folder that was trained here or published, or a sample.

    Weights keep the type in which they are stored; those of a container become 32-bit floats.
    DataError names what is wrong.
    """
    folder = model_folder(folder)
    with errors_of(f"{folder / 'config.json'} does not fit the folder"):
        config, tensors = opened(folder)
        # transformers may have saved another model since, and it drops our own files
        own = None if "transformers_version" in config else NativeModel.of(config, folder)
        base = published(config, tensors) if own is None else trained_here(config, own, tensors)
    base.model.to(device)
    return with_codecs(base, folder)


def load_settings(folder: Path | str) -> tuple[ModelConfig, Usage]:
    """Return the settings of the base that `load` returns, and its usage, without its weights."""
    folder = model_folder(folder)
    with errors_of(f"{folder / 'config.json'} does not fit the folder"):
        config, tensors = opened(folder)
        own = None if "transformers_version" in config else NativeModel.of(config, folder)
        return settings(config, tensors) if own is None else (own.model, own.usage)


def check_compatible(
    base: Base,
    codecs: Mapping[str, Codec],
    config: ModelConfig,
    where: str,
    free: Collection[str] = (),
) -> None:
    """Check that a base encodes as these codecs do; ConfigError, which names `where`, otherwise.

    Settings of a modality whose names are in `free` may differ.
    """
    for name, codec in codecs.items():
        if name not in base.codecs:
            names = ", ".join(base.codecs)
            raise ConfigError(f"{where}: its base has no modality {name!r}; it has: {names}")
        modality = config.modalities[name]
        over = modality.over(base.config.modalities[name], base.codecs[name])
        alike = _bound(modality.tree(), free) == _bound(over.tree(), free)
        if not alike or codec_files(codec) != codec_files(modality.adopt(base.codecs[name])):
            raise ConfigError(
                f"{where}: its codec of {name!r} is not this run's, and one id would mean two"
                " things; pretrain both from one --store, with the same settings of the modality"
            )


def _bound(tree: Mapping[str, Any], free: Collection[str]) -> dict[str, Any]:
    """Return settings without those, at any depth, whose names are free."""
    return {
        name: _bound(value, free) if isinstance(value, Mapping) else value
        for name, value in tree.items()
        if name not in free
    }


def codec_files(codec: Codec) -> dict[str, bytes]:
    """Return the files that a codec saves: equal for codecs that encode alike."""
    with tempfile.TemporaryDirectory() as name:
        codec.save(Path(name))
        return {str(p.relative_to(name)): p.read_bytes() for p in Path(name).rglob("*.*")}


def layout(base: Base) -> tuple[Mapping[str, Any], dict[str, LazyTensor], dict[str, LazyTensor]]:
    """Return config.json, the tensors under the layout's names, and those without such a name.

    ConfigError where the model has adapters, which would be left behind.
    """
    must_be_plain(base.model)
    state = base.model.state_dict()
    if base.origin is not None:
        config, names, kept = base.origin.config, base.origin.names, base.origin.unused_tensors
        source = spoken(config, names, base.origin.files)
        usage = plain_usage(source.pattern, source.patterns)
        if source.config == base.config and base.usage.replace(grids={}) == usage:
            return config, *convert.written(source, base.config, state, names, kept)
    own = {
        "format": FORMAT,
        "model": base.config.tree(),
        "usage": base.usage.tree(),
        "codecs": list(base.codecs),
    }
    leaving, marks, family = _leaving(base)
    if family is None:
        ours = {name: LazyTensor.of(tensor) for name, tensor in state.items()}
        return {"model_type": "broadbase", "broadbase": own}, ours, {}
    written = leaving.model.state_dict()
    links = convert.grouped(family.source, leaving.config, written)
    tensors, rest = convert.written(family.source, leaving.config, written, links, {})
    # what the family has no names for is stored apart, so that the base is read back unchanged
    rest |= {name: LazyTensor.of(each) for name, each in state.items() if name not in written}
    return {**family.config, "broadbase": {**own, **marks}}, tensors, rest


def source_of(base: Base) -> ImportedModel:
    """Return the published family of a base, by whose names its tensors are known outside.

    ConfigError where it belongs to none.
    """
    if base.origin is not None:
        return spoken(base.origin.config, base.origin.names, base.origin.files)
    family = _leaving(base)[2]
    if family is None:
        raise ConfigError(explain_mismatch(base))
    return family.source


def _leaving(base: Base) -> tuple[Base, dict[str, bool], FamilyMatch | None]:
    """Return a base as one of a published family, what was changed for that, and the family.

    The input norm may be folded, and the mask vector become an id. The base itself and None if it
    belongs to no family.
    """
    (where, *_), (space, *_) = base.config.towers, base.config.modalities
    for each in filter(None, (base, folded(base))):
        mask, own = base.model.space(space).mask_vector, None
        if mask is not None and base.usage.attention == "full":
            normed = each is not base
            norm: Any = base.model.towers[where].input_norm if normed else torch.nn.Identity()
            with torch.no_grad():
                own = masked(each, norm(mask))
        for leaving in filter(None, (own, each)):
            family = next((match for match in matches(leaving) if not match.differences), None)
            if family is not None:
                marks = {"folded": each is not base, "masked": leaving is not each}
                return leaving, {k: True for k, said in marks.items() if said}, family
    return base, {}, None
