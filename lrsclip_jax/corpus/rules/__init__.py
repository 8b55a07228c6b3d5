"""Captions from boxes and masks by rules alone: no model, and nothing said that does not follow from them."""

from lrsclip_jax.corpus.rules.masks import things_of_mask
from lrsclip_jax.corpus.rules.stage import Description, caption_by_rules, describe

__all__ = ["Description", "caption_by_rules", "describe", "things_of_mask"]
