"""The models by name, as fields of their towers; it imports no JAX, so a config is checked against it at once."""

from __future__ import annotations

from typing import Any

_B = {"width": 768, "layers": 12, "heads": 12, "embed_dim": 512}
_L = {"width": 1024, "layers": 24, "heads": 16, "embed_dim": 768, "patch": 14}
_B_TEXT = {"width": 512, "layers": 12, "heads": 8, "embed_dim": 512}
_L_TEXT = {"width": 768, "layers": 12, "heads": 12, "embed_dim": 768}

# A plain ViT: MAE's and DINOv2's (whose LayerScale is folded into the weights when they are loaded).
_PLAIN = {"activation": "gelu", "norm_eps": 1e-6, "patch_bias": True, "pre_norm": False}
_S = _PLAIN | {"patch": 14, "width": 384, "layers": 12, "heads": 6, "embed_dim": 384}
_DINOV3 = _PLAIN | {"norm_eps": 1e-5, "registers": 4, "rotary_base": 100.0}

# SigLIP and SigLIP 2, which differ in their tokenizers alone. The size of the images is one that was published; others
# are a matter of model.image.size.
_SIGLIP = {"activation": "gelu_tanh", "norm_eps": 1e-6}
_MAP = _SIGLIP | {"patch_bias": True, "pre_norm": False, "pool": "map"}
_SIGLIP_B = _B | {"embed_dim": 768}
_SIGLIP_L = {"width": 1024, "layers": 24, "heads": 16, "embed_dim": 1024}
_SO400M = {"width": 1152, "layers": 27, "heads": 16, "embed_dim": 1152, "mlp_width": 4304}
_C4 = _SIGLIP | {"kind": "siglip"}
_GEMMA = _C4 | {"vocab_size": 256000, "pad_token": 0}

# OpenVision: its patches have no bias, its text tower is SigLIP's with the word pieces of BERT.
_OPENVISION = _SIGLIP | {"activation": "gelu", "pre_norm": False, "pool": "mean"}
_PIECES = _C4 | {"context_length": 80, "pad_token": 0}

# CLIP's ResNets. The head of attention has heads of 64.
_RN = {"kind": "resnet"}
_RN_TEXT = {"width": 640, "layers": 12, "heads": 10, "embed_dim": 640}
_H_TEXT = {"width": 1024, "layers": 12, "heads": 16, "embed_dim": 1024}

# name: (fields of the image tower, fields of the text tower), over the defaults of their classes
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "vitb32": (_B | {"patch": 32}, _B_TEXT),
    "vitb16": (_B | {"patch": 16}, _B_TEXT),
    "vitl14": (_L, _L_TEXT),
    "vitl14_336": (_L | {"size": 336}, _L_TEXT),
    "vith14": (
        {"patch": 14, "width": 1280, "layers": 32, "heads": 16, "embed_dim": 1024, "activation": "gelu"},
        {"width": 1024, "layers": 24, "heads": 16, "embed_dim": 1024, "activation": "gelu"},
    ),
    "rn50": (_RN, _B_TEXT | {"embed_dim": 1024}),
    "rn101": (_RN | {"stages": (3, 4, 23, 3), "embed_dim": 512}, _B_TEXT),
    "rn50x4": (_RN | {"size": 288, "width": 80, "stages": (4, 6, 10, 6), "heads": 40, "embed_dim": 640}, _RN_TEXT),
    "rn50x16": (
        _RN | {"size": 384, "width": 96, "stages": (6, 8, 18, 8), "heads": 48, "embed_dim": 768},
        _L_TEXT,
    ),
    "rn50x64": (
        _RN | {"size": 448, "width": 128, "stages": (3, 15, 36, 10), "heads": 64, "embed_dim": 1024},
        _H_TEXT,
    ),
    # DINOv2's image tower with a small text tower, and with MiniLM
    "vits14": (_S, {"width": 384, "layers": 6, "heads": 6, "embed_dim": 384}),
    "vits14_minilm": (_S, {"kind": "bert", "width": 384, "layers": 6, "heads": 12, "embed_dim": 384}),
    # DINOv3's image towers with CLIP's text towers
    "dinov3_vitb16": (_DINOV3 | _B | {"patch": 16}, _B_TEXT),
    "dinov3_vitl16": (_DINOV3 | _L | {"patch": 16}, _L_TEXT),
    "rsclip_vitb16_448_bert": (_PLAIN | _B | {"patch": 16, "size": 448}, {"kind": "bert", "embed_dim": 512}),
    "siglip_vitb16": (_MAP | _SIGLIP_B | {"patch": 16}, _C4 | _SIGLIP_B),
    "siglip_vitl16": (_MAP | _SIGLIP_L | {"patch": 16, "size": 256}, _C4 | _SIGLIP_L),
    "siglip_so400m14": (_MAP | _SO400M | {"patch": 14}, _C4 | _SO400M),
    "siglip2_vitb32": (_MAP | _SIGLIP_B | {"patch": 32, "size": 256}, _GEMMA | _SIGLIP_B),
    "siglip2_vitb16": (_MAP | _SIGLIP_B | {"patch": 16}, _GEMMA | _SIGLIP_B),
    "siglip2_vitl16": (_MAP | _SIGLIP_L | {"patch": 16, "size": 256}, _GEMMA | _SIGLIP_L),
    "siglip2_so400m14": (_MAP | _SO400M | {"patch": 14}, _GEMMA | _SO400M),
    "siglip2_so400m16": (_MAP | _SO400M | {"patch": 16, "size": 256}, _GEMMA | _SO400M),
    "openvision_vits16": (
        _OPENVISION | {"patch": 16, "width": 384, "layers": 12, "heads": 6, "embed_dim": 384},
        _PIECES | {"width": 384, "layers": 12, "heads": 6, "embed_dim": 384},
    ),
    "openvision_vitb16": (_OPENVISION | _B | {"patch": 16}, _PIECES | _B_TEXT),
    "openvision_vitl14": (_OPENVISION | _L, _PIECES | _L_TEXT),
    "openvision_so400m14": (_OPENVISION | _SO400M | {"patch": 14}, _PIECES | _SO400M),
    "openvision_vith14": (
        _OPENVISION | {"patch": 14, "width": 1280, "layers": 32, "heads": 16, "embed_dim": 1024},
        _PIECES | {"width": 1024, "layers": 24, "heads": 16, "embed_dim": 1024},
    ),
    "tiny": (
        {"size": 64, "patch": 8, "width": 64, "layers": 2, "heads": 2, "embed_dim": 64},
        {"width": 64, "layers": 2, "heads": 2, "embed_dim": 64},
    ),
    "tiny_bert": (
        _PLAIN | {"size": 64, "patch": 8, "width": 64, "layers": 2, "heads": 2, "embed_dim": 64},
        {"kind": "bert", "width": 64, "layers": 2, "heads": 2, "embed_dim": 64},
    ),
    "custom": ({}, {}),  # every field is given
}
