"""The files of an exported folder: tokenizer, image settings, generation settings, a card."""

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


def write_companions(base: Base, folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the files that a folder of weights lacks; `facts` are for the card."""
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
    """Write the files that transformers' AutoTokenizer reads, unless the folder has them.

    The tokenizer is that of a codec, with a token for every id of the model and a template for
    start and end. The codec itself is saved in codecs/.
    """
    for name, codec in base.codecs.items():
        exists = (folder / "tokenizer_config.json").exists()
        if codec.tokenizer is not None and not exists:
            _tokenizer(base, name, folder, config.get("text_config", config))


def _tokenizer(base: Base, name: str, folder: Path, config: Mapping[str, Any]) -> None:
    codec = base.codecs[name]
    codec_folder = folder / "codecs" / name
    codec_folder.mkdir(parents=True, exist_ok=True)
    codec.save(codec_folder)
    tokenizer = Tokenizer.from_str(codec.tokenizer.to_str())
    discrete = ids(base.config.modalities[name])
    assert discrete is not None
    mask = config.get("mask_token_id") if discrete.mask_id is None else discrete.mask_id
    sentinels = base.config.modalities[name].corruption_of(codec).sentinels
    _every_id(tokenizer, config.get("vocab_size", discrete.vocab_size), sentinels, mask)
    ends = {"bos_token": codec.start, "eos_token": codec.end, "mask_token": mask}
    named = {role: tokenizer.id_to_token(int(i)) for role, i in ends.items() if i is not None}
    special = {role: str(token) for role, token in named.items() if token is not None}
    if tokenizer.post_processor is None:
        encoder = base.attention_pattern(name) == "full"
        around = [
            special[role] for role in ("bos_token", "eos_token")[: 1 + encoder] if role in special
        ]
        tokenizer.post_processor = TemplateProcessing(
            single=[*around[:1], "$A", *around[1:]],
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in around],
        )
    if "eos_token" in special:
        special["pad_token"] = special["eos_token"]  # padding is not attended to
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special,
        "model_max_length": config.get("max_position_embeddings"),
        "clean_up_tokenization_spaces": False,
    }
    _json(folder / "tokenizer_config.json", {k: v for k, v in settings.items() if v is not None})
    _json(folder / "special_tokens_map.json", special)
    if codec.chat is not None:
        (folder / "chat_template.jinja").write_text(codec.chat.text)


def _every_id(tokenizer: Tokenizer, count: int, sentinels: range, mask: int | None) -> None:
    """Add a token for every id that no text has.

    These are sentinels, named as in T5, the mask, and unused ids.
    """
    missing = range(tokenizer.get_vocab_size(), count)
    spelled: dict[int, str | AddedToken] = {
        i: f"<extra_id_{i - sentinels.start}>" if i in sentinels else f"<unused_{i}>"
        for i in missing
    }
    if mask in spelled:
        spelled[mask] = AddedToken(
            "<mask>", lstrip=True
        )  # the mask includes the blank before a word
    tokenizer.add_special_tokens([*spelled.values()])  # at once: each call goes through all of them


def _card(folder: Path, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    opens = f"transformers.{(config.get('architectures') or ['AutoModel'])[0]}.from_pretrained"
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    card = ["---", "library_name: transformers", "---", "", f"# {folder.name}", "", *lines]
    (folder / "README.md").write_text(
        "\n".join([*card, "", f"Open it with `{opens}(FOLDER)`.", ""])
    )


def _json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2))
