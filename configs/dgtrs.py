"""DGTRS-CLIP: LRSCLIP with a curriculum between long and short texts (JSTARS 18, 2025; arXiv 2503.19311 v2).

    lrsclip train --config=dgtrs --workdir=runs/dgtrs \
        --config.model.init=CLIP_WEIGHTS --config.data.sources=PREPARED_LRS2M

--config=dgtrs:vitl14 is the larger of the two released models. The difference to that recipe is the weight ω of the
long text, which follows the share of the run that is done.

The paper's abstract names the curriculum (DGCL), which balances long and short texts during training. Its formula was
not at hand, and no code of the authors is public. So this is a reading of it, by the only public attempt
(github.com/Ehtisham56/DGTRS_Region_Phrase, which calls itself an approximation). Left open, and chosen here:

- the direction: long texts first, then short ones;
- the first stage: ω = 1 for a fifth of the run;
- the second: half a cosine down to ω = 0.2, which ends at four fifths of the run; here by straight lines between nine
  points of it, less than 0.01 away;
- the last: ω = 0.2 to the end. That attempt adds 0.1 there, which fades;
- the unit: the attempt sets ω once an epoch. LRSCLIP trains for one, so here it changes with every step.
"""

from lrsclip_jax.config import recipe


def get_config(base="vitb16"):
    config = recipe(base)
    config.loss.long_weight = (
        *((0.0, 1.0), (0.2, 1.0), (0.275, 0.970), (0.35, 0.883), (0.425, 0.753), (0.5, 0.6)),
        *((0.575, 0.447), (0.65, 0.317), (0.725, 0.230), (0.8, 0.2)),
    )
    return config
