"""The contrastive losses, pure functions of the global batch, in three forms that differ in memory alone."""

from lrsclip_jax.losses.dual import clamp_logit_scale, dual_loss, kinds_used, long_weight_at
from lrsclip_jax.losses.full import info_nce
from lrsclip_jax.losses.keys import packed_text_keys, text_keys
from lrsclip_jax.losses.pcm import reduce_to_components

__all__ = [
    "clamp_logit_scale",
    "dual_loss",
    "info_nce",
    "kinds_used",
    "long_weight_at",
    "packed_text_keys",
    "reduce_to_components",
    "text_keys",
]
