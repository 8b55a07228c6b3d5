"""Both papers' recipes on a small machine: DINOv2 ViT-S/14 and MiniLM (a small BERT) on AID images with RSICD captions.

    lrsclip prepare rsicd_captions.jsonl --image-root=AID --image-key=cls/filename \
        --short-key=captions --label-key=cls --out=DATA/aid
    lrsclip prepare rsicd_long.jsonl --image-root=AID --image-key=cls/filename \
        --short-key=captions --long-key=long --label-key=cls --out=DATA/aid_long
    cp dinov2_vits14.safetensors DATA; cp -r MINILM DATA/minilm        # MINILM has config.json and model.safetensors

In rsicd_long.jsonl each line of the other file has one key more, "long", an image's distinct captions in a row:
`" ".join(dict.fromkeys(caption.strip() for caption in row["captions"]))`. Three runs, the second and the third from the
first; as sources of single towers its weights come without its temperature:

    lrsclip train --config=aid_minilm:heads:DATA --workdir=runs/heads
    lrsclip train --config=aid_minilm:rsclip:DATA --workdir=runs/rsclip \
        --config.model.image_init=runs/heads --config.model.text_init=runs/heads
    lrsclip train --config=aid_minilm:lrsclip:DATA --workdir=runs/lrsclip \
        --config.model.init=runs/heads

benchmarks/README.md has the table, and how the learning rates were chosen (--config.eval.sources=DATA/aid:valid).
"""

from lrsclip_jax.config import defaults
from lrsclip_jax.errors import InputError


def get_config(recipe_and_data):
    recipe, _, data = recipe_and_data.partition(":")
    if recipe not in _RECIPES or not data:
        raise InputError(f"write one of {', '.join(_RECIPES)}, a colon, DATA")
    config = defaults()
    config.model.name = "vits14_minilm"
    config.model.image.size = 112
    config.data.sources = (f"{data}/aid:train",)
    config.data.short_length = 32
    config.loss.same_text = "ignore"  # RSICD's captions repeat within and between images
    config.batch_size = 64
    config.optimizer.clip_norm = 1.0
    config.eval.sources = (f"{data}/aid:test",)
    config.checkpoint.every_steps = 50
    _RECIPES[recipe](config, data)
    return config


def _heads(config, data):
    """The projections alone, between two frozen towers."""
    config.model.init = "random"
    config.model.image_init = f"{data}/dinov2_vits14.safetensors"
    config.model.text_init = f"{data}/minilm"
    config.data.long_length = 32
    config.loss.long_weight = 0.0
    config.loss.max_scale = 100.0
    config.epochs = 3.0
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.01
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 10
    config.optimizer.freeze = ("(image|text)/(?!projection).*",)


def _rsclip(config, data):
    """RSCLIP's (configs/rsclip.py): every caption a pair, random crops, a fixed temperature, AdamW with a cosine."""
    config.data.sampling = "pairs"
    config.data.long_length = 32
    config.data.crop_scale = (0.8, 1.0)
    config.loss.long_weight = 1.0
    config.loss.learn_temperature = False
    config.epochs = 0.323  # of 39,730 pairs: the paper trains for ten
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-4
    config.optimizer.lr_rules = (_TOWERS,)
    config.optimizer.weight_decay = 0.01
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 0.0323  # a tenth of the run, as in the paper


def _lrsclip(config, data):
    """LRSCLIP's (configs/vitb16.py): a long and a short text of every image, SGD with dampening."""
    config.data.sources = (f"{data}/aid_long:train",)
    config.data.long_length = 72
    config.loss.long_weight = 0.8
    config.epochs = 1.0
    config.optimizer.learning_rate = 3e-2
    config.optimizer.lr_rules = (_TOWERS,)
    config.optimizer.schedule = "cosine"  # which the paper leaves open, as warm-up
    config.optimizer.warmup_steps = 12


_TOWERS = ("(image|text)/(?!projection).*", 1 / 30)  # pretrained, and easily spoilt
_RECIPES = {"heads": _heads, "rsclip": _rsclip, "lrsclip": _lrsclip}
