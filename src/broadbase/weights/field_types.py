"""The types of fields of a published config.json, checked before anything is built.

The module of a family defines what its fields mean. This one defines the type of each field, for
all families, and checks that the tensors of a folder allow the number of layers and experts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from broadbase.core.errors import BroadbaseError, DataError, out_of_memory

LARGEST = 2**31 - 1
Size = Annotated[int, Field(ge=1, le=LARGEST)]
Side = Annotated[int, Field(ge=1, le=1 << 14)]  # pixels or channels of a record along one axis
Amount = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Id = Annotated[int, Field(ge=-1, le=LARGEST)]  # -1 stands for none in older files
Depth = Annotated[int, Field(ge=-LARGEST, le=LARGEST)]
LAYERS = (
    "num_hidden_layers", "num_layers", "num_decoder_layers", "n_layer", "encoder_layers",
    "decoder_layers", "decoder_num_hidden_layers",
)  # fmt: skip
EXPERTS = "num_local_experts"
FIELDS: dict[Any, tuple[str, ...]] = {
    str: (
        "model_type", "hidden_act", "activation_function", "feed_forward_proj",
        "projector_hidden_act", "classifier_activation", "vision_feature_select_strategy",
    ),
    str | None: ("position_embedding_type", "hidden_activation"),
    Size: (
        *LAYERS, EXPERTS,
        "hidden_size", "intermediate_size", "num_attention_heads", "num_experts_per_tok",
        "d_model", "d_ff", "d_kv", "num_heads", "n_embd", "n_head", "n_positions",
        "encoder_attention_heads", "decoder_attention_heads", "encoder_ffn_dim", "decoder_ffn_dim",
        "decoder_hidden_size", "decoder_intermediate_size", "decoder_num_attention_heads",
        "vocab_size", "type_vocab_size", "max_position_embeddings", "max_source_positions",
        "max_target_positions",
        "num_register_tokens", "local_attention", "global_attn_every_n_layers",
        "relative_attention_num_buckets", "relative_attention_max_distance",
    ),
    Side: ("image_size", "patch_size", "num_channels", "num_mel_bins"),
    Size | None: (
        "num_key_value_heads", "head_dim", "n_inner", "sliding_window", "sliding_window_pattern",
        "_sliding_window_pattern", "projection_dim", "projection_size", "max_window_layers",
    ),
    Amount: (
        "rms_norm_eps", "norm_eps", "norm_epsilon", "layer_norm_eps", "layer_norm_epsilon",
        "router_aux_loss_coef", "layer_scale_init_value",
    ),
    Rate: (
        "mlp_ratio", "query_pre_attn_scalar", "swiglu_alpha", "global_rope_theta",
        "local_rope_theta",
    ),
    Rate | None: (
        "rope_theta", "rope_local_base_freq", "attn_logit_softcapping", "final_logit_softcapping",
        "swiglu_limit",
    ),
    float: ("logit_scale_init_value",),
    bool | None: (
        "attention_bias", "mlp_bias", "norm_bias", "classifier_bias", "decoder_bias", "qkv_bias",
        "use_bias", "emb_layer_norm_before", "multimodal_projector_bias", "norm_pix_loss",
        "scale_decoder_outputs", "scale_embedding", "tie_word_embeddings", "token_dropout",
        "use_absolute_position_embeddings", "use_mean_pooling", "use_relative_position_bias",
        "use_shared_relative_position_bias", "use_sliding_window", "use_swiglu_ffn",
        "scale_attn_weights", "scale_attn_by_inverse_layer_idx", "add_cross_attention",
        "is_decoder", "multi_query", "apply_layernorm", "vision_use_head", "is_folding_model",
        "use_bidirectional_attention", "normalize_before", "add_final_layer_norm",
    ),
    Id | None: (
        "pad_token_id", "cls_token_id", "sep_token_id", "mask_token_id", "decoder_start_token_id",
        "image_token_index",
    ),
    Id | Annotated[list[Id], Field(min_length=1)] | None: ("bos_token_id", "eos_token_id"),
    Depth | Annotated[list[Depth], Field(min_length=1)]: ("vision_feature_layer",),
    Annotated[list[str], Field(min_length=1)] | None: ("layer_types",),
    list[str] | None: ("architectures",),
    dict[str, Any] | None: ("id2label",),
}  # fmt: skip


class _Typed(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _Rope(_Typed):
    rope_type: str | None = None
    type: str | None = None
    rope_theta: Rate | None = None
    factor: Rate | None = None
    low_freq_factor: Rate | None = None
    high_freq_factor: Rate | None = None
    original_max_position_embeddings: Size | None = None
    beta_fast: Rate | None = None
    beta_slow: Rate | None = None
    truncate: bool | None = None
    attention_factor: Rate | None = None
    sliding_attention: _Rope | None = None  # for the layers of a kind, where they differ
    full_attention: _Rope | None = None


_TYPES: dict[str, Any] = {
    name: (kind, None) for kind, names in FIELDS.items() for name in names
} | dict.fromkeys(("rope_parameters", "rope_scaling"), (_Rope | None, None))
_PART = create_model("_Part", __base__=_Typed, **_TYPES)
_CONFIG = create_model(
    "_Config",
    __base__=_PART,
    **dict.fromkeys(("text_config", "vision_config"), (_PART, None)),  # type: ignore[call-overload]
)


def check(config: Mapping[str, Any]) -> None:
    """Check the type of every field; DataError names those that have another."""
    try:
        _CONFIG.model_validate(dict(config))
    except ValidationError as error:
        raise DataError(f"config.json: {described(error)}") from None


def bound(config: Mapping[str, Any], shapes: Collection[tuple[int, ...]]) -> None:
    """Check that tensors of these shapes allow a config's layers and experts; DataError if not."""
    parts = [config, *(config.get(f"{part}_config") or {} for part in ("text", "vision"))]
    rows = {shape[0] for shape in shapes if shape}
    for part in parts:
        for field in LAYERS:
            if (part.get(field) or 0) > len(shapes):
                raise DataError(
                    f"config.json: {field} is {part[field]}, and the files hold no more than"
                    f" {len(shapes)} tensors; copy the folder again"
                )
        if part.get(EXPERTS) and part[EXPERTS] not in rows:
            raise DataError(
                f"config.json: {EXPERTS} is {part[EXPERTS]}, and no router has as many;"
                " copy the folder again"
            )
        types = part.get("layer_types")
        if types and len(types) != part.get("num_hidden_layers", len(types)):
            raise DataError(
                f"config.json: layer_types names {len(types)} layers, and num_hidden_layers is"
                f" {part['num_hidden_layers']}; copy the file again"
            )


OUTSIDE = "if it is a class of yours, name its module in BROADBASE_PLUGINS"


@contextmanager
def errors_of(what: str) -> Iterator[None]:
    """Turn errors that the content of a file causes into a DataError that begins with `what`."""
    try:
        yield
    except BroadbaseError:
        raise
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError,
            TypeError, ValueError) as error:  # fmt: skip
        if out_of_memory(error):
            raise
        reason = described(error) if isinstance(error, ValidationError) else _brief(str(error))
        if isinstance(error, KeyError):
            reason = f"no field {reason}"
        unknown = " is called " in reason  # a class that may come from outside the package
        remedy = OUTSIDE if unknown else "copy it again"
        raise DataError(f"{what}: {reason or type(error).__name__}; {remedy}") from None


def described(error: ValidationError) -> str:
    """Return the first three fields, what is wrong with each, and its value."""
    rows = []
    for entry in error.errors(include_url=False):
        path, message = ".".join(map(str, entry["loc"])), entry["msg"].removeprefix("Value error, ")
        field = f"field `{path}`: " if path else ""
        rows.append(f"{field}{message} (got {_brief(repr(entry['input']))})")
    return "; ".join(rows[:3]) + (f"; and {len(rows) - 3} more" if len(rows) > 3 else "")


def _brief(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:197]}..."
