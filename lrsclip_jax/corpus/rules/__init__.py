"""Captions from boxes and masks by rules alone: no model, and nothing said that does not follow from them."""

from lrsclip_jax.corpus.rules.caption_stage import Description, caption_by_rules, describe

__all__ = ["Description", "caption_by_rules", "describe"]
