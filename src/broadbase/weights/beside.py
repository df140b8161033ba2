"""What leaves beside weights: a tokenizer, how pictures are taken, ends of generation, a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from broadbase.core.contracts import Codec
from broadbase.core.files import read_json
from broadbase.modalities.picture import PictureCodec
from broadbase.modalities.resizing import SETTINGS
from broadbase.model.base import Base
from broadbase.weights.shape import ids

ENDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


def write_beside(base: Base, folder: Path, facts: Mapping[str, Any]) -> None:
    """The files that a folder of weights still lacks; `facts` are for the card."""
    config = read_json(folder / "config.json")
    for name, codec in base.codecs.items():
        if isinstance(getattr(codec, "tokenizer", None), Tokenizer):
            _tokenizer(base, name, folder, config)
        if isinstance(codec, PictureCodec) and not (folder / SETTINGS).exists():
            codec.save(folder)
    ends = {k: config[k] for k in ENDS if config.get(k) is not None}
    if ends and not (folder / "generation_config.json").exists():
        _json(folder / "generation_config.json", {**ends, "do_sample": True})
    _card(folder, config, {**facts, "type": config["model_type"]})


def _tokenizer(base: Base, name: str, folder: Path, config: Mapping[str, Any]) -> None:
    """Ours, with a token for every id that the model has, and the ends that a document has; the
    codec's own lies apart, in codecs/."""
    if (folder / "tokenizer_config.json").exists():
        return
    codec: Any = base.codecs[name]
    (own := folder / "codecs" / name).mkdir(parents=True, exist_ok=True)
    codec.save(own)
    told = Tokenizer.from_str(codec.tokenizer.to_str())
    mask = _every_id(told, base, name, codec)
    ends = {
        k: v for k, v in (("bos_token", codec.start), ("eos_token", codec.end)) if v is not None
    }
    spelled = {kind: str(told.id_to_token(int(identity))) for kind, identity in ends.items()}
    if told.post_processor is None:
        read = list(spelled.values()) if base.sees(name) == "full" else [spelled["bos_token"]]
        told.post_processor = TemplateProcessing(
            single=[*read[:1], "$A", *read[1:]],
            special_tokens=[(token, told.token_to_id(token)) for token in spelled.values()],
        )
    told.save(str(folder / "tokenizer.json"))
    places = config.get("text_config", config).get("max_position_embeddings")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **spelled,
        "pad_token": spelled.get("eos_token"),  # padding is not attended to
        "mask_token": mask,
        "model_max_length": places,
        "clean_up_tokenization_spaces": False,
    }
    _json(folder / "tokenizer_config.json", {k: v for k, v in settings.items() if v is not None})


def _every_id(told: Tokenizer, base: Base, name: str, codec: Codec) -> str | None:
    """Add the ids that no record has: an objective's marks as T5 calls them, what stands for
    hidden, and what training found no use for. The token for hidden, where there is one."""
    modality = base.config.modalities[name]
    discrete, marks = ids(modality), modality.corruption_of(codec).marks
    assert discrete is not None
    for i in range(told.get_vocab_size(), discrete.vocabulary):
        spelled = f"<extra_id_{i - marks.start}>" if i in marks else f"<unused_{i}>"
        told.add_special_tokens(["<mask>" if i == discrete.mask_id else spelled])
    found: str | None = None if discrete.mask_id is None else told.id_to_token(discrete.mask_id)
    return found


def _card(folder: Path, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    opens = f"transformers.{(config.get('architectures') or ['AutoModel'])[0]}.from_pretrained"
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    card = ["---", "library_name: transformers", "---", "", f"# {folder.name}", "", *lines]
    (folder / "README.md").write_text(
        "\n".join([*card, "", f"Open it with `{opens}(FOLDER)`.", ""])
    )


def _json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2))
