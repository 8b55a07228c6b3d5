"""A SiglipModel of transformers under open_clip's names, for tests.

The names are those of open_clip 3.3.0 and timm 1.0.31. open_clip's `TimmModel` calls timm's model `visual.trunk`. Its
`VisionTransformer` has `patch_embed`, `pos_embed`, `blocks` (with one `qkv`), `norm`, and `attn_pool`: this is an
`AttentionPoolLatent` with `latent`, `q`, and `kv` for keys and values. open_clip's `TextTransformer` has `resblocks`
with torch's MultiheadAttention. Linear layers are torch's [out, in] in all of them.
"""

import json
import re
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

_TRUNK, _TEXT = "visual.trunk", "text.transformer.resblocks"
_PARTS = ("q_proj", "k_proj", "v_proj")
_NAMES = (
    (r"vision_model\.embeddings\.patch_embedding", f"{_TRUNK}.patch_embed.proj"),
    (r"vision_model\.encoder\.layers\.(\d+)\.layer_norm", rf"{_TRUNK}.blocks.\1.norm"),
    (r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.out_proj", rf"{_TRUNK}.blocks.\1.attn.proj"),
    (r"vision_model\.encoder\.layers\.(\d+)\.mlp", rf"{_TRUNK}.blocks.\1.mlp"),
    (r"vision_model\.post_layernorm", f"{_TRUNK}.norm"),
    (r"vision_model\.head\.probe", f"{_TRUNK}.attn_pool.latent"),
    (r"vision_model\.head\.attention\.out_proj", f"{_TRUNK}.attn_pool.proj"),
    (r"vision_model\.head\.layernorm", f"{_TRUNK}.attn_pool.norm"),
    (r"vision_model\.head\.mlp", f"{_TRUNK}.attn_pool.mlp"),
    (r"text_model\.embeddings\.token_embedding", "text.token_embedding"),
    (r"text_model\.embeddings\.position_embedding\.weight", "text.positional_embedding"),
    (r"text_model\.encoder\.layers\.(\d+)\.layer_norm", rf"{_TEXT}.\1.ln_"),
    (r"text_model\.encoder\.layers\.(\d+)\.self_attn\.out_proj", rf"{_TEXT}.\1.attn.out_proj"),
    (r"text_model\.encoder\.layers\.(\d+)\.mlp\.fc1", rf"{_TEXT}.\1.mlp.c_fc"),
    (r"text_model\.encoder\.layers\.(\d+)\.mlp\.fc2", rf"{_TEXT}.\1.mlp.c_proj"),
    (r"text_model\.final_layer_norm", "text.ln_final"),
    (r"text_model\.head", "text.text_projection"),
)


def open_clip_names(tensors: dict) -> dict:
    """A SiglipModel's state dict as open_clip's."""
    theirs = {}
    for key, value in tensors.items():
        if key in ("logit_scale", "logit_bias"):
            theirs[key] = value.reshape(())
        elif key == "vision_model.embeddings.position_embedding.weight":
            theirs[f"{_TRUNK}.pos_embed"] = value[None]
        elif found := re.fullmatch(r"(.*)\.layers\.(\d+)\.self_attn\.q_proj\.(weight|bias)", key):
            tower, layer, kind = found.groups()
            image = tower.startswith("vision_model")
            name = f"{_TRUNK}.blocks.{layer}.attn.qkv.{kind}" if image else f"{_TEXT}.{layer}.attn.in_proj_{kind}"
            theirs[name] = np.concatenate([tensors[key.replace("q_proj", part)] for part in _PARTS])
        elif found := re.fullmatch(r"vision_model\.head\.attention\.in_proj_(weight|bias)", key):
            width = len(value) // 3
            theirs[f"{_TRUNK}.attn_pool.q.{found[1]}"] = value[:width]
            theirs[f"{_TRUNK}.attn_pool.kv.{found[1]}"] = value[width:]
        elif not re.search(r"self_attn\.[kv]_proj", key):
            pattern, name = next((pair for pair in _NAMES if re.match(pair[0], key)), ("", ""))
            theirs[re.sub(pattern, name, key)] = value
    return theirs


def write(source: Path, folder: Path, trunk: str, act_kwargs: dict | None) -> None:
    """Makes open_clip's folder of transformers' one; `trunk` is a name of timm's."""
    folder.mkdir()
    save_file(open_clip_names(load_file(source / "model.safetensors")), folder / "open_clip_model.safetensors")
    config = json.loads((source / "config.json").read_text())
    text, image = config["text_config"], config["vision_config"]
    text_cfg = {
        "context_length": text["max_position_embeddings"],
        "vocab_size": text["vocab_size"],
        "hf_tokenizer_name": f"timm/{trunk}",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": text["hidden_size"],
        "heads": text["num_attention_heads"],
        "layers": text["num_hidden_layers"],
        "mlp_ratio": text["intermediate_size"] / text["hidden_size"],
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
    }
    vision_cfg = {
        "image_size": image["image_size"],
        "timm_model_name": trunk,
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    }
    model_cfg = {"embed_dim": image["hidden_size"], "init_logit_bias": -10, "custom_text": True}
    model_cfg |= {"vision_cfg": vision_cfg, "text_cfg": text_cfg | ({"act_kwargs": act_kwargs} if act_kwargs else {})}
    half = [0.5, 0.5, 0.5]
    preprocess = {"mean": half, "std": half, "interpolation": "bicubic", "resize_mode": "squash"}
    written = {"model_cfg": model_cfg, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(written))
    (folder / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
