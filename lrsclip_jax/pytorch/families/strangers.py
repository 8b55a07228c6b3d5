"""Models that no tower here computes, known by keys that they alone have."""

from __future__ import annotations

import re

from lrsclip_jax.errors import InputError
from lrsclip_jax.pytorch.files.tensors import Tensors

_RESNET = r"(^|\.)layer[1-4]\.\d+\.(conv|bn|downsample)"
_CLIPS_HEAD = re.compile(r"(^|\.)attnpool\.")  # of the ResNets that `openai` reads

_STRANGERS = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (r"exp_avg|momentum_buffer|^param_groups", "the state of an optimizer, not of a model"),
        (r"\.lora_(A|B|up|down)\.", "a LoRA adapter, to be merged into its model first"),
        (r"\.PCM\.\d", "a ViTAE, whose blocks hold convolutions"),
        (r"\.sampling_(offsets|scales|angles)\.", "an RVSA, whose attention moves its windows"),
        (_RESNET, "a ResNet without the head of attention (attnpool) that CLIP's have"),
        (r"^text_decoder\.|^visual\.attn_pool\.|^text\.cls_emb$", "a CoCa"),
        (r"^visual\.trunk\.", "an open_clip model with an image tower of timm"),
        (r"^visual\.(blocks|patch_embed|rope|cls_token)\b", "an EVA-CLIP"),
        (
            r"^text\.(transformer\.(embeddings|encoder)|proj)\.(?!position_ids$)",
            "an open_clip model with a text tower of Hugging Face",
        ),
        (r"^text_filip_projection\.", "an FG-CLIP, which projects long and short texts by two matrices"),
        (r"^vision_model\..*\.layernorm_before\.", "a dual encoder with a ViTModel, whose pooler no tower here has"),
        (r"^bert\.", "a Chinese-CLIP, or a BERT that lacks its embeddings"),
    )
)


def refuse(tensors: Tensors) -> None:
    """Raises InputError, naming what it is, for a checkpoint of a model that can't be converted."""
    keys = sorted(tensors)
    if any(_CLIPS_HEAD.search(key) for key in keys):
        keys = [key for key in keys if not re.search(_RESNET, key)]
    for pattern, what in _STRANGERS:
        if key := next(filter(pattern.search, keys), None):
            raise InputError(
                f"{tensors.name} is {what} (it has {key}): only plain ViTs, CLIP's ResNets and their text towers are "
                "read"
            )
