"""Captions from boxes and masks by rules alone: no model, and nothing said that does not follow from them."""

from lrsclip_jax.corpus.rules.caption_stage import Description, caption_by_rules, describe
from lrsclip_jax.corpus.rules.mask_objects import things_of_mask

__all__ = ["Description", "caption_by_rules", "describe", "things_of_mask"]
