"""The quickstart: a tiny long-text CLIP from scratch on procedural scenes, minutes on two CPU cores, no download.

python -m lrsclip_jax.main --config=configs/quickstart.py --workdir=runs/quickstart
"""

from lrsclip_jax.config import defaults


def get_config():
    config = defaults()
    config.model.name = "tiny"
    config.model.init = "random"
    config.model.image.size = 64
    config.data.sources = ("scenes:6000:0",)
    config.data.long_length = 160
    config.data.short_length = 32
    config.batch_size = 128
    config.epochs = 12.0
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.b2 = 0.98
    config.optimizer.weight_decay = 0.1
    config.optimizer.decay_rules = ((".*(bias|scale|embedding|logit_scale)", 0.0),)
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 50
    config.loss.max_scale = 100.0
    config.eval.sources = ("scenes:1000:1",)  # another seed: held-out scenes
    config.eval.every_steps = 200
    config.eval.truncations = (20,)
    config.checkpoint.every_steps = 200
    return config
