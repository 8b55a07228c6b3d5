"""The contrastive losses, pure functions of the global batch, in three forms that differ in memory alone."""

from lrsclip_jax.losses.dual import Texts, clamp_logit_scale, dual_loss
from lrsclip_jax.losses.equal_texts import packed_text_keys, text_keys
from lrsclip_jax.losses.full import info_nce
from lrsclip_jax.losses.options import LossOptions, in_steps, long_weight_at, loss_options
from lrsclip_jax.losses.patches import region_loss
from lrsclip_jax.losses.pcm import principal_part, reduce_to_components
from lrsclip_jax.losses.preserve import preservation
from lrsclip_jax.losses.sigmoid import sigmoid_loss

__all__ = [
    "LossOptions",
    "Texts",
    "clamp_logit_scale",
    "dual_loss",
    "in_steps",
    "info_nce",
    "long_weight_at",
    "loss_options",
    "packed_text_keys",
    "preservation",
    "principal_part",
    "reduce_to_components",
    "region_loss",
    "sigmoid_loss",
    "text_keys",
]
