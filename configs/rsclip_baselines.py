"""The four baselines of RSCLIP's Tables I and II: CLIP ViT-B/32 with adapters (arXiv 2409.07048).

    lrsclip train --config=rsclip_baselines:pfeiffer --workdir=runs/pfeiffer \
        --config.model.init=hf:openai/clip-vit-base-patch32 --config.data.sources=PREPARED

The argument is pfeiffer, prefix, lora or unipelt. The paper takes their scores from RS5M's (arXiv 2306.11300), and says
of them: CLIP(ViT-B-32) has 151 M parameters, each of the four 152 M. The sizes of the adapters below are AdapterHub's
defaults, which make 152.6 M (pfeiffer), 152.2 M (prefix), 151.8 M (lora) and 153.4 M (unipelt).
"""

from lrsclip_jax.config import defaults
from lrsclip_jax.errors import InputError

# Behind both towers' MLPs; in front of their keys and values; on query and value; and all three with gates.
METHODS = {
    "pfeiffer": ((".*/mlp", "adapter", 16),),
    "prefix": ((".*", "prefix", 30),),
    "lora": ((".*/(query|value)", "lora", 8, 8.0),),
    "unipelt": ((".*", "unipelt", 10, 16, 8),),
}


def get_config(method="lora"):
    if method not in METHODS:
        raise InputError(f"the argument is one of {', '.join(METHODS)}")
    config = defaults()

    # Stated in the paper: Tables I and II.
    config.model.name = "vitb32"
    config.model.adapt = METHODS[method]

    # Left open by the paper, and chosen here.
    # Unstated: whether more than adapters learn. Here the projections and the temperature do, by model.adapt_with.
    config.model.text.context_length = 77  # unstated; CLIP's
    config.data.sampling = "pairs"  # unstated
    config.data.long_length = 77
    config.data.decoder = "fast"  # unstated
    config.loss.long_weight = 1.0  # what pairs need
    config.loss.max_scale = 100.0  # unstated; CLIP's
    config.batch_size = 512  # unstated, as all that follows
    config.epochs = 10.0
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-4
    config.optimizer.b2 = 0.999
    config.optimizer.eps = 1e-8
    config.optimizer.weight_decay = 0.01
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 1.0
    return config
