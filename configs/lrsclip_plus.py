"""LRSCLIP's recipe on texts that are drawn by their sentences, whose long text has to score above the short one.

    lrsclip train --config=lrsclip_plus --workdir=runs/plus \
        --config.model.init=CLIP_WEIGHTS --config.data.sources=PREPARED

The argument, --config=lrsclip_plus:RECIPE, is the recipe that it changes, vitb16 by default. The difference:

- of the long text the first sentence, a summary, is left out half the time (DeBias-CLIP, arXiv 2602.22419), then each
  sentence three times of ten (DreamLIP, arXiv 2403.17007); half of the texts are shuffled;
- a term for which a longer text that is as true scores higher (`loss.rising`), as HiMo-CLIP (AAAI 2026) measures.

benchmarks/README.md compares it with LRSCLIP's recipe on mosaics of real scenes, on equal data and steps: long texts
are found better, short ones a little worse.
"""

from lrsclip_jax.config import recipe


def get_config(base="vitb16"):
    config = recipe(base)
    config.data.long_draw.drop_first = 0.5
    config.data.long_draw.drop = 0.3
    config.data.long_draw.shuffle = 0.5
    config.loss.rising = 0.1
    return config
