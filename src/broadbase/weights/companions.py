"""What leaves beside weights: a tokenizer, how pictures are taken, ends of generation, a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import TemplateProcessing

from broadbase.core.files import read_json
from broadbase.inference.base import Base
from broadbase.modalities.published_image import PublishedImageCodec
from broadbase.modalities.resizing import SETTINGS
from broadbase.weights.sizes import ids

ENDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


def write_beside(base: Base, folder: Path, facts: Mapping[str, Any]) -> None:
    """The files that a folder of weights still lacks; `facts` are for the card."""
    config = read_json(folder / "config.json")
    write_tokenizers(base, folder, config)
    for codec in base.codecs.values():
        if isinstance(codec, PublishedImageCodec) and not (folder / SETTINGS).exists():
            codec.save(folder)
    ends = {k: config[k] for k in ENDS if config.get(k) is not None}
    if ends and not (folder / "generation_config.json").exists():
        _json(folder / "generation_config.json", {**ends, "do_sample": True})
    _card(folder, config, {**facts, "type": config["model_type"]})


def write_tokenizers(base: Base, folder: Path, config: Mapping[str, Any]) -> None:
    """What transformers' AutoTokenizer reads in a folder that lacks it: the tokenizer of a codec,
    with a token for every id that the model has, and what comes around a document. The codec's own
    lies apart, in codecs/."""
    for name, codec in base.codecs.items():
        known = (folder / "tokenizer_config.json").exists()
        if codec.tokenizer is not None and not known:
            _tokenizer(base, name, folder, config.get("text_config", config))


def _tokenizer(base: Base, name: str, folder: Path, config: Mapping[str, Any]) -> None:
    codec = base.codecs[name]
    (own := folder / "codecs" / name).mkdir(parents=True, exist_ok=True)
    codec.save(own)
    told = Tokenizer.from_str(codec.tokenizer.to_str())
    discrete = ids(base.config.modalities[name])
    assert discrete is not None
    mask = config.get("mask_token_id") if discrete.mask_id is None else discrete.mask_id
    marks = base.config.modalities[name].corruption_of(codec).sentinels
    _every_id(told, config.get("vocab_size", discrete.vocab_size), marks, mask)
    ends = {"bos_token": codec.start, "eos_token": codec.end, "mask_token": mask}
    known = {role: told.id_to_token(int(i)) for role, i in ends.items() if i is not None}
    special = {role: str(token) for role, token in known.items() if token is not None}
    if told.post_processor is None:
        whole = base.attention_pattern(name) == "full"
        read = [
            special[role] for role in ("bos_token", "eos_token")[: 1 + whole] if role in special
        ]
        told.post_processor = TemplateProcessing(
            single=[*read[:1], "$A", *read[1:]],
            special_tokens=[(token, told.token_to_id(token)) for token in read],
        )
    if "eos_token" in special:
        special["pad_token"] = special["eos_token"]  # padding is not attended to
    told.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special,
        "model_max_length": config.get("max_position_embeddings"),
        "clean_up_tokenization_spaces": False,
    }
    _json(folder / "tokenizer_config.json", {k: v for k, v in settings.items() if v is not None})
    _json(folder / "special_tokens_map.json", special)


def _every_id(told: Tokenizer, count: int, marks: range, mask: int | None) -> None:
    """Add the ids that no record has: an objective's marks as T5 calls them, what stands for
    hidden, and what training found no use for."""
    missing = range(told.get_vocab_size(), count)
    spelled: dict[int, str | AddedToken] = {
        i: f"<extra_id_{i - marks.start}>" if i in marks else f"<unused_{i}>" for i in missing
    }
    if mask in spelled:
        spelled[mask] = AddedToken("<mask>", lstrip=True)  # a word is hidden with its blank
    told.add_special_tokens([*spelled.values()])  # at once: each call looks through all of them


def _card(folder: Path, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    opens = f"transformers.{(config.get('architectures') or ['AutoModel'])[0]}.from_pretrained"
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    card = ["---", "library_name: transformers", "---", "", f"# {folder.name}", "", *lines]
    (folder / "README.md").write_text(
        "\n".join([*card, "", f"Open it with `{opens}(FOLDER)`.", ""])
    )


def _json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2))
