"""LRSCLIP's recipe with sentences drawn, images turned with their words, and a longer true text that scores higher.

    lrsclip train --config=lrsclip_plus --workdir=runs/plus \
        --config.model.init=CLIP_WEIGHTS --config.data.sources=PREPARED

The argument, --config=lrsclip_plus:RECIPE, is the recipe that it changes, vitb16 by default. The difference:

- three quarters of the long texts are drawn: half of these lose their first sentence, a summary (DeBias-CLIP, arXiv
  2602.22419), then three to eight sentences stay (as in FLAIR, arXiv 2412.03561), and three quarters are shuffled;
- half of the short texts are one to four sentences of the long one, the others those of the data;
- long texts weigh 0.65 in place of 0.8, for the sake of short ones;
- a term for which a longer text that is as true scores higher (`loss.rising`), as HiMo-CLIP (AAAI 2026) measures;
- images are mirrored and turned by quarters, and the words of direction in their texts with them.

benchmarks/README.md compares it with LRSCLIP's recipe on mosaics of real scenes, on equal data and steps, with Muon
for both and a small text tower: from CLIP's weights nobody has compared them here.
"""

from lrsclip_jax.config import recipe


def get_config(base="vitb16"):
    config = recipe(base)
    config.data.long_draw.share = 0.75
    config.data.long_draw.drop_first = 0.5
    config.data.long_draw.sample = (3, 8)
    config.data.long_draw.shuffle = 0.75
    config.data.short_text = "sentences"
    config.data.short_draw.share = 0.5
    config.data.short_draw.sample = (1, 4)
    config.data.short_length = max(config.data.short_length, 96)  # room for the sentences
    config.data.augmentation.turns = "all"
    config.loss.long_weight = 0.65
    config.loss.rising = 0.8
    return config
