"""LRSCLIP's recipe with sentences drawn, images turned with their words, and a longer true text that scores higher.

    lrsclip train --config=lrsclip_plus --workdir=runs/plus \
        --config.model.init=CLIP_WEIGHTS --config.data.sources=PREPARED

The argument, --config=lrsclip_plus:RECIPE, is the recipe that it changes, vitb16 by default. The difference:

- of the long text the first sentence, a summary, is left out half the time (DeBias-CLIP, arXiv 2602.22419), then each
  sentence three times of ten (DreamLIP, arXiv 2403.17007); half of the texts are shuffled;
- half of the short texts are one to four sentences of the long one, the others those of the data;
- a term for which a longer text that is as true scores higher (`loss.rising`), as HiMo-CLIP (AAAI 2026) measures;
- images are mirrored and turned by quarters, and the words of direction in their texts with them.

benchmarks/README.md compares it with LRSCLIP's recipe on mosaics of real scenes, on equal data and steps.
"""

from lrsclip_jax.config import recipe


def get_config(base="vitb16"):
    config = recipe(base)
    config.data.long_draw.drop_first = 0.5
    config.data.long_draw.drop = 0.3
    config.data.long_draw.shuffle = 0.5
    config.data.short_text = "sentences"
    config.data.short_draw.share = 0.5
    config.data.short_draw.sample = (1, 4)
    config.data.short_length = max(config.data.short_length, 96)  # room for the sentences
    config.data.augmentation.turns = "all"
    config.loss.rising = 0.3
    return config
