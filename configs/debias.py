"""LRSCLIP's recipe with DeBias-CLIP's second text in place of the short one (arXiv 2602.22419, CVPR 2026).

    lrsclip train --config=debias --workdir=runs/debias \
        --config.model.init=CLIP_WEIGHTS --config.data.sources=PREPARED

The argument, --config=debias:RECIPE, is the recipe that it changes, vitb16 by default. The sets need long texts alone.

DeBias-CLIP trains on a long text as it is, and on a second one that is made of it at every step: the summary, which is
the first sentence, is left out, some of the other sentences are sampled, and the text is moved to later positions. The
paper was at hand in abstract and digests only. Left open there, and chosen here:

- how many sentences: one to three, as FLAIR (arXiv 2412.03561) samples them, half of the time consecutive ones;
- whether the summary always goes: it does;
- how far a text is moved: up to where it ends with the table. The paper pads in front of a text; here no token sees
  padding (lrsclip_jax/data/batches/sentence_draws.py);
- the weight of the second text: half, as Long-CLIP weighs its short text.
"""

from lrsclip_jax.config import recipe


def get_config(base="vitb16"):
    config = recipe(base)
    config.data.short_text = "sentences"
    config.data.short_draw.drop_first = 1.0
    config.data.short_draw.sample = (1, 3)
    config.data.short_draw.consecutive = 0.5
    config.data.short_draw.shift = config.model.text.context_length - 2
    config.loss.long_weight = 0.5
    return config
