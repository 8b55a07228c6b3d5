"""The quickstart: a tiny long-text CLIP from scratch on procedural scenes, minutes on two CPU cores, no download.

lrsclip train --config=quickstart --workdir=runs/quickstart
"""

from lrsclip_jax.config import defaults


def get_config():
    config = defaults()
    config.model.name = "tiny"
    config.model.init = "random"
    config.model.image.size = 64
    config.data.sources = ("scenes:4000:0",)
    config.data.long_length = 144  # the scenes' long texts have 94 to 142 tokens
    config.data.short_length = 32
    config.batch_size = 128
    config.epochs = 6.0
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.b2 = 0.98
    config.optimizer.weight_decay = 0.1
    config.optimizer.decay_rules = ((".*(bias|scale|embedding|logit_scale)", 0.0),)
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 30
    config.loss.max_scale = 100.0
    config.eval.sources = ("scenes:1000:1",)  # another seed: held-out scenes
    config.eval.every_steps = 60
    config.eval.truncations = (20,)
    config.checkpoint.every_steps = 60
    return config
