"""LRSCLIP's fine-tuning by LoRA on one GPU of 24 GB: ViT-B/16 (lora_24gb:b16) or ViT-L/14 (lora_24gb:l14).

    lrsclip train --config=lora_24gb:b16 --workdir=runs/lora_b16 \
        --config.model.init=hf:openai/clip-vit-base-patch16 --config.data.sources=PREPARED

The batch is one that fits by the account of `lrsclip plan`; benchmarks/README.md has the largest ones. The differences
to `vitb16` and `vitl14` are the adapters, AdamW for them, and the batch.
"""

from lrsclip_jax.config import recipe
from lrsclip_jax.errors import InputError

_RECIPES = {"b16": ("vitb16", 512), "l14": ("vitl14", 256)}


def get_config(model="b16"):
    if model not in _RECIPES:
        raise InputError(f"the argument is one of {', '.join(_RECIPES)}")
    name, batch_size = _RECIPES[model]
    config = recipe(name)
    config.model.adapt = ((".*/blocks/attention/.*", "lora", 8, 16.0),)  # rank 8 as in the LoRA paper's larger runs
    config.model.image.remat = "full"
    config.model.text.remat = "full"
    config.batch_size = batch_size
    config.loss.max_scale = 100.0

    # Chosen here: values that fine-tunings by LoRA usually have.
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 5e-4
    config.optimizer.b2 = 0.999
    config.optimizer.eps = 1e-8
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 0.05
    config.optimizer.clip_norm = 1.0
    return config
