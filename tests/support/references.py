"""Small random models of transformers, of every family, in odd shapes: what parity is judged by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors import safe_open

VOCABULARY = 97
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "initializer_range": 0.2,
    "bos_token_id": 3,
    "eos_token_id": None,
    "pad_token_id": 1,
}
GROUPED = {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16}  # 3 to 1, 96 != 48
LOCAL, GLOBAL = "sliding_attention", "full_attention"


def rope(kind: str, **more: Any) -> dict[str, Any]:
    """Scaling whose original length is shorter than what the tests read."""
    recorded = {"rope_type": kind, "rope_theta": 5e4}
    return {"rope_parameters": recorded | more}


LLAMA3 = rope(
    "llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=16,
)
LINEAR = rope("linear", factor=4.0)
YARN = rope("yarn", factor=4.0, original_max_position_embeddings=16)
OSS_YARN = rope("yarn", factor=32.0, original_max_position_embeddings=16, truncate=False)


def llama(**more: Any) -> Any:
    return hf.LlamaForCausalLM(hf.LlamaConfig(**{**SMALL, **GROUPED, **more}))


def mistral(**more: Any) -> Any:
    return hf.MistralForCausalLM(hf.MistralConfig(**{**SMALL, **GROUPED, **more}))


def mixtral(**more: Any) -> Any:
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
    return hf.MixtralForCausalLM(hf.MixtralConfig(**{**SMALL, **GROUPED, **experts, **more}))


def gpt_oss(**more: Any) -> Any:
    experts = {"num_local_experts": 5, "num_experts_per_tok": 4, "sliding_window": 7}
    clipped = {"swiglu_alpha": 1.5, "swiglu_limit": 0.8}  # so low that it clips
    given = {**SMALL, **GROUPED, **experts, **clipped, **OSS_YARN, **more}
    return hf.GptOssForCausalLM(hf.GptOssConfig(**given))


def qwen2(**more: Any) -> Any:
    shape = {"num_attention_heads": 6, "num_key_value_heads": 2}
    return hf.Qwen2ForCausalLM(hf.Qwen2Config(**{**SMALL, **shape, **more}))


def qwen3(**more: Any) -> Any:
    return hf.Qwen3ForCausalLM(hf.Qwen3Config(**{**SMALL, **GROUPED, **more}))


def starcoder2(**more: Any) -> Any:
    shape = {"num_attention_heads": 6, "num_key_value_heads": 2, "sliding_window": 7}
    return hf.Starcoder2ForCausalLM(hf.Starcoder2Config(**{**SMALL, **shape, **more}))


def gemma2(**more: Any) -> Any:
    caps = {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0}
    shape = {"sliding_window": 7, "query_pre_attn_scalar": 24}
    return hf.Gemma2ForCausalLM(
        hf.Gemma2Config(**{**SMALL, **GROUPED, **caps, **shape, "eos_token_id": [90], **more})
    )


def gemma3(**more: Any) -> Any:
    kinds = [LOCAL, GLOBAL, LOCAL]
    shape = {"sliding_window": 7, "query_pre_attn_scalar": 24, "layer_types": kinds}
    return hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**{**SMALL, **GROUPED, **shape, **more}))


def gpt2(**more: Any) -> Any:
    sizes = {"n_positions": 128, "n_embd": 48, "n_layer": 3, "n_head": 4}
    ends = {k: SMALL[k] for k in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}
    given = {**ends, **sizes, "initializer_range": 0.2, **more}
    return hf.GPT2LMHeadModel(hf.GPT2Config(**given))


def gpt_bigcode(**more: Any) -> Any:
    sizes = {"n_positions": 128, "n_embd": 48, "n_layer": 3, "n_head": 4}
    ends = {k: SMALL[k] for k in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}
    given = {**ends, **sizes, "initializer_range": 0.2, **more}
    return hf.GPTBigCodeForCausalLM(hf.GPTBigCodeConfig(**given))


ENCODER = {"num_attention_heads": 4, "max_position_embeddings": 64}


def bert(kind: Any = hf.BertForMaskedLM, **more: Any) -> Any:
    return kind(hf.BertConfig(**{**SMALL, **ENCODER, **more}))


def roberta(kind: Any = hf.RobertaForMaskedLM, **more: Any) -> Any:
    parts = {"type_vocab_size": 1, "layer_norm_eps": 1e-5}
    return kind(hf.RobertaConfig(**{**SMALL, **ENCODER, **parts, **more}))


def modernbert(kind: Any = hf.ModernBertForMaskedLM, **more: Any) -> Any:
    shape = {"num_attention_heads": 4, "local_attention": 10, "num_hidden_layers": 4}
    ends = {"cls_token_id": 3, "sep_token_id": 2, "eos_token_id": 2}
    return kind(hf.ModernBertConfig(**{**SMALL, **shape, **ends, **more}))


def esm(kind: Any = hf.EsmForMaskedLM, **more: Any) -> Any:
    own = {"position_embedding_type": "rotary", "token_dropout": True, "mask_token_id": 2}
    return kind(hf.EsmConfig(**{**SMALL, **ENCODER, **own, **more}))


def eurobert(kind: Any = hf.EuroBertForMaskedLM, **more: Any) -> Any:
    shape = {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16}
    return kind(hf.EuroBertConfig(**{**SMALL, **shape, "mask_token_id": 2, **more}))


SIDES = {
    f"{side}_{what}": n
    for side in ("encoder", "decoder")
    for what, n in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 80))
}


def bart(**more: Any) -> Any:
    ends = {"bos_token_id": 0, "eos_token_id": None, "pad_token_id": 1, "forced_eos_token_id": None}
    shape = {"vocab_size": VOCABULARY, "d_model": 48, "max_position_embeddings": 80}
    given = {**ends, **SIDES, **shape, "init_std": 0.2, **more}
    return hf.BartForConditionalGeneration(hf.BartConfig(**given))


def whisper(**more: Any) -> Any:
    sizes = {"max_source_positions": 12, "max_target_positions": 80, "num_mel_bins": 8}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3}
    shape = {"vocab_size": VOCABULARY, "d_model": 48, "begin_suppress_tokens": None}
    given = {**SIDES, **sizes, **ends, **shape, "init_std": 0.2, **more}
    return hf.WhisperForConditionalGeneration(hf.WhisperConfig(**given))


def t5(**more: Any) -> Any:
    shape = {"vocab_size": VOCABULARY, "d_model": 48, "d_kv": 16, "d_ff": 80, "num_heads": 4}
    depth = {"num_layers": 3, "num_decoder_layers": 2, "relative_attention_num_buckets": 8}
    ends = {"pad_token_id": 0, "decoder_start_token_id": 0, "relative_attention_max_distance": 12}
    config = hf.T5Config(**{**shape, **depth, **ends, **more})
    config.tie_word_embeddings = more.get("tie_word_embeddings", True)  # it is set back there
    model = hf.T5ForConditionalGeneration(config)
    model.encoder.embed_tokens = model.decoder.embed_tokens = model.shared  # as published
    return model


SIGHT = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 20,
    "patch_size": 4,
    "initializer_range": 0.2,
}


def vit(kind: Any = hf.ViTModel, **more: Any) -> Any:
    return kind(hf.ViTConfig(**{**SIGHT, "intermediate_size": 80, "num_labels": 5, **more}))


def dinov2(**more: Any) -> Any:
    return hf.Dinov2Model(hf.Dinov2Config(**{**SIGHT, "mlp_ratio": 2, **more}))


def registers(**more: Any) -> Any:
    given = {**SIGHT, "mlp_ratio": 2, "num_register_tokens": 3, **more}
    return hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**given))


def clip(act: str = "quick_gelu") -> Any:
    text = {"vocab_size": VOCABULARY, "max_position_embeddings": 24, "eos_token_id": 96}
    both = {**SIGHT, "intermediate_size": 80, "hidden_act": act, "initializer_range": 0.02}
    both["initializer_factor"] = 3.0
    given = {"text_config": {**both, **text, "bos_token_id": 95}, "vision_config": both}
    return hf.CLIPModel(hf.CLIPConfig(**given, projection_dim=32))


IMAGE = 90  # the id where LLaVA's picture stands


def llava(text: dict[str, Any] | None = None, **more: Any) -> Any:
    sight = {**SIGHT, "num_hidden_layers": 3, "intermediate_size": 80, "hidden_act": "quick_gelu"}
    vision = {**sight, "model_type": "clip_vision_model", "initializer_factor": 3.0}
    language = {**SMALL, **GROUPED, "hidden_size": 36, "model_type": "llama", **(text or {})}
    given = {"image_token_index": IMAGE, "image_seq_length": 25, **more}
    return hf.LlavaForConditionalGeneration(
        hf.LlavaConfig(vision_config=vision, text_config=language, **given)
    )


def siglip() -> Any:
    both = {**SIGHT, "intermediate_size": 80}
    text = {"vocab_size": VOCABULARY, "max_position_embeddings": 24, "projection_size": 48}
    return hf.SiglipModel(hf.SiglipConfig(text_config={**both, **text}, vision_config=both))


def vit_mae() -> Any:
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    decoder = {f"decoder_{k}": n for k, n in zip(names, (32, 3, 2, 40), strict=True)}
    given = {**SIGHT, **decoder, "intermediate_size": 80, "mask_ratio": 0.6}
    return hf.ViTMAEForPreTraining(hf.ViTMAEConfig(**given))


def beit(kind: Any = None, **more: Any) -> Any:
    shape = {**SMALL, "num_attention_heads": 3, "image_size": 20, "patch_size": 4}
    shared = {"use_shared_relative_position_bias": True, "use_mask_token": True}
    config = hf.BeitConfig(**{**shape, **shared, "layer_scale_init_value": 0.3, **more})
    reference = (kind or hf.BeitForMaskedImageModeling)(config)
    for name, parameter in reference.named_parameters():
        if name.endswith(("_table", "_token")):  # zeros there at first
            torch.nn.init.normal_(parameter, std=0.5)
    return reference


BEIT: dict[str, Callable[[], Any]] = {
    "beit": beit,
    "beit absolute": lambda: beit(use_absolute_position_embeddings=True),
    "beit each layer": lambda: beit(
        use_shared_relative_position_bias=False, use_relative_position_bias=True
    ),
    "beit without gains": lambda: beit(layer_scale_init_value=0.0),
    "beit labels": lambda: beit(hf.BeitForImageClassification),
}
LLAVA: dict[str, Callable[[], Any]] = {
    "llava": llava,
    "llava with its start": lambda: llava(
        vision_feature_select_strategy="full", vision_feature_layer=-1, image_seq_length=26
    ),
    "llava of joined layers": lambda: llava(vision_feature_layer=[2, -3, -2]),
    "llava of a first layer": lambda: llava(
        {**YARN, "num_key_value_heads": 6, "tie_word_embeddings": True},
        vision_feature_layer=1,
        projector_hidden_act="relu",
        multimodal_projector_bias=False,
    ),
}
MEETING = {"clip": clip, "siglip": siglip, "vit_mae": vit_mae}
VISION: dict[str, Callable[[], Any]] = {
    "vit": vit,
    "vit labels": lambda: vit(hf.ViTForImageClassification, qkv_bias=False),
    "dinov2": dinov2,
    "dinov2 gated": lambda: dinov2(use_swiglu_ffn=True),
    "dinov2 registers": registers,
    "dinov2 registers gated": lambda: registers(use_swiglu_ffn=True),
}
DECODERS: dict[str, Callable[[], Any]] = {
    "llama llama3": lambda: llama(**LLAMA3),
    "llama tied linear": lambda: llama(tie_word_embeddings=True, **LINEAR),
    "llama yarn": lambda: llama(**YARN),
    "llama biased": lambda: llama(attention_bias=True, mlp_bias=True),
    "mistral": lambda: mistral(sliding_window=7),
    "mistral whole": lambda: mistral(
        sliding_window=None, head_dim=None, num_attention_heads=3, num_key_value_heads=1
    ),
    "mixtral": mixtral,
    "mixtral window": lambda: mixtral(sliding_window=7, num_experts_per_tok=3),
    "gpt_oss": gpt_oss,
    "gpt_oss odd": lambda: gpt_oss(
        num_hidden_layers=4,
        intermediate_size=36,
        num_local_experts=3,
        num_experts_per_tok=1,
        num_attention_heads=3,
        num_key_value_heads=1,
        attention_bias=False,
        swiglu_limit=7.0,
    ),
    "qwen2": qwen2,
    "qwen2 windows": lambda: qwen2(
        use_sliding_window=True, sliding_window=7, max_window_layers=1, tie_word_embeddings=True
    ),
    "qwen3": qwen3,
    "qwen3 yarn": lambda: qwen3(**YARN, tie_word_embeddings=True),
    "starcoder2": starcoder2,
    "starcoder2 plain": lambda: starcoder2(
        use_bias=False, tie_word_embeddings=False, sliding_window=None
    ),
    "gemma2": lambda: gemma2(tie_word_embeddings=False),
    "gemma2 multi-query": lambda: gemma2(num_key_value_heads=1, num_hidden_layers=4),
    "gemma3": lambda: gemma3(tie_word_embeddings=False),
    "gemma3 scaled": lambda: gemma3(
        rope_parameters={
            LOCAL: {"rope_type": "default", "rope_theta": 1e4},
            GLOBAL: {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
        },
        num_hidden_layers=7,
        layer_types=None,
    ),
    "gpt2": gpt2,
    "gpt2 wide": lambda: gpt2(n_inner=60, n_head=3),
    "gpt_bigcode": gpt_bigcode,
    "gpt_bigcode wide": lambda: gpt_bigcode(n_inner=60, n_head=3),
}
ENCODERS: dict[str, Callable[[], Any]] = {
    "bert": bert,
    "bert pretraining": lambda: bert(hf.BertForPreTraining, num_attention_heads=3),
    "geneformer": lambda: bert(hidden_act="relu", type_vocab_size=2),
    "roberta": roberta,
    "roberta wide": lambda: roberta(intermediate_size=200, num_attention_heads=2),
    "esm": esm,
    "esm without dropout": lambda: esm(token_dropout=False, emb_layer_norm_before=True),
    "eurobert": eurobert,
    "eurobert tied": lambda: eurobert(tie_word_embeddings=True, attention_bias=True),
    "modernbert": modernbert,
    "modernbert biased": lambda: modernbert(
        norm_bias=True, attention_bias=True, mlp_bias=True, classifier_bias=True
    ),
}
PAIRED: dict[str, Callable[[], Any]] = {
    "bart": bart,
    "bart scaled": lambda: bart(scale_embedding=True, decoder_layers=3),
    "t5": t5,
    "t5 v1.1": lambda: t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
}
BACKBONES: dict[str, Callable[[], Any]] = {
    "bert": lambda: bert(hf.BertModel),
    "roberta": lambda: roberta(hf.RobertaModel),
    "modernbert": lambda: modernbert(hf.ModernBertModel),
    "eurobert": lambda: eurobert(hf.EuroBertModel),
    "llama": lambda: hf.LlamaModel(hf.LlamaConfig(**SMALL, **GROUPED)),
    "gpt2": lambda: hf.GPT2Model(gpt2().config),
    "gpt_oss": lambda: hf.GptOssModel(gpt_oss().config),
}


class Forced:
    """KeyedRandom the given values [B,M] one after the other, and keeps the logits it was shown."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values, self.seen = values, list[torch.Tensor]()

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        self.seen.append(logits)
        return self.values[:, len(self.seen) - 1, None]


def saved(build: Callable[[], Any], folder: Path) -> Any:
    """A reference with gains and biases away from 1 and 0, so that a swap would show; on disk."""
    torch.manual_seed(0)
    reference = build().eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    reference.save_pretrained(folder)
    return reference


def stored(folder: Path) -> dict[str, tuple[str, bytes]]:
    """Every tensor of a folder: its type and its bytes."""
    with safe_open(folder / "model.safetensors", "pt") as file:
        read = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return {
        name: (str(value.dtype), value.contiguous().view(torch.uint8).numpy().tobytes())
        if value.ndim
        else (str(value.dtype), str(value.item()).encode())
        for name, value in read.items()
    }


FAMILIES: dict[str, Callable[[], Any]] = {
    **DECODERS,
    **ENCODERS,
    **PAIRED,
    **VISION,
    **MEETING,
    **BEIT,
    **LLAVA,
    "whisper": whisper,
}
