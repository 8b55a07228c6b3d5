"""LRSCLIP's recipe and `lrsclip_plus` on long texts of real scenes, small enough for two cores: mosaics of AID.

    lrsclip prepare rsicd_captions.jsonl --image-root=AID --image-key=cls/filename \
        --short-key=captions --label-key=cls --out=DATA/aid
    for split in train:2500 valid:300 test:500; do lrsclip mosaic DATA/aid --split=${split%:*} --count=${split#*:} \
        --n=3 --size=168 --summary --out=DATA/mosaics; done
    cp dinov2_vits14.safetensors DATA; cd DATA
    lrsclip embed aid:train --checkpoint=dinov2_vits14.safetensors --features=encoder --size=98 --out=aid_images
    lrsclip embed mosaics:train --checkpoint=dinov2_vits14.safetensors --features=encoder --size=168 --turns \
        --out=mosaic_images

The image tower is DINOv2's ViT-S/14, frozen and from memory. A small text tower first learns words from short texts of
single scenes. From there it is stretched, and trained on mosaics, whose long texts are a summary and nine sentences:

    lrsclip train --config=aid_mosaics:words:DATA --workdir=runs/words
    lrsclip train --config=aid_mosaics:long:DATA --workdir=runs/lrsclip --config.model.text_init=runs/words
    lrsclip train --config=lrsclip_plus:aid_mosaics:long:DATA --workdir=runs/plus \
        --config.model.text_init=runs/words --config.optimizer.warmup_steps=60
    lrsclip embed DATA/mosaics:test --checkpoint=runs/plus --sentences=10 --out=sets/plus

benchmarks/README.md has the table, and how the learning rates were chosen.
"""

from lrsclip_jax.config import defaults
from lrsclip_jax.errors import InputError


def get_config(stage_and_data):
    stage, _, data = stage_and_data.partition(":")
    if stage not in ("words", "long") or not data:
        raise InputError("write words or long, a colon, DATA")
    config = defaults()
    config.model.name = "vits14"
    config.model.init = "random"
    config.model.image_init = f"{data}/dinov2_vits14.safetensors"
    config.model.image.embed_dim = 128
    config.model.text.embed_dim = 128
    config.model.text.width = 128
    config.model.text.layers = 2
    config.model.text.heads = 2
    config.model.text.remat = "none"
    config.data.short_length = 40
    config.data.crop_scale = None
    config.loss.max_scale = 100.0
    config.optimizer.name = "adamw"
    config.optimizer.weight_decay = 0.05
    config.optimizer.decay_rules = ((".*(bias|scale|embedding)", 0.0),)
    config.optimizer.freeze = ("image/(?!projection).*",)
    config.optimizer.schedule = "cosine"
    config.optimizer.clip_norm = 1.0
    if stage == "words":
        config.model.image.size = 98
        config.model.text.context_length = 77
        config.data.sources = (f"{data}/aid:train",)
        config.data.image_features = f"{data}/aid_images"
        config.data.long_length = 77
        config.loss.long_weight = 0.0
        config.loss.same_text = "ignore"  # RSICD's captions repeat within and between images
        config.batch_size = 128
        config.epochs = 12.0
        config.optimizer.learning_rate = 1e-3
        config.optimizer.warmup_steps = 50
    else:
        config.model.image.size = 168
        config.model.text.context_length = 248
        config.data.sources = (f"{data}/mosaics:train",)
        config.data.image_features = f"{data}/mosaic_images"
        config.data.long_length = 240
        config.data.packed = True
        config.loss.long_weight = 0.8
        config.batch_size = 64
        config.epochs = 8.0
        config.optimizer.name = "muon"
        config.optimizer.learning_rate = 2e-3
        config.optimizer.warmup_steps = 20
    return config
