"""SigLIP or SigLIP 2 of fixed resolution, fine-tuned with its own loss: siglip:siglip2_vitb16, or another model of it.

    lrsclip train --config=siglip:siglip2_vitb16 --workdir=runs/siglip2 \
        --config.model.init=hf:google/siglip2-base-patch16-224 --config.data.sources=PREPARED

Texts have the 64 tokens of its training. For long texts set model.text.context_length=248 and data.long_length=248: the
table of positions is then stretched, and every text costs 248 tokens, as SigLIP's tower sees its padding.
"""

from lrsclip_jax.config import defaults
from lrsclip_jax.errors import InputError

_SIZES = {
    "siglip_vitb16": 224,
    "siglip_vitl16": 256,
    "siglip_so400m14": 224,
    "siglip2_vitb32": 256,
    "siglip2_vitb16": 224,
    "siglip2_vitl16": 256,
    "siglip2_so400m14": 224,
    "siglip2_so400m16": 256,
}


def get_config(model="siglip2_vitb16"):
    if model not in _SIZES:
        raise InputError(f"the argument is one of {', '.join(_SIZES)}")
    config = defaults()
    config.model.name = model
    config.model.image.size = _SIZES[model]  # of published weights; others have 256 to 512
    config.model.text.context_length = 64
    config.data.long_length = 64
    config.data.short_length = 64
    config.data.decoder = "fast"
    config.loss.name = "sigmoid"  # its temperature and bias come with the weights

    # Chosen here: SigLIP's paper fine-tunes no model. b2 is that of its pre-training.
    config.batch_size = 256
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-5
    config.optimizer.b2 = 0.95
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 0.05
    config.optimizer.clip_norm = 1.0
    return config
