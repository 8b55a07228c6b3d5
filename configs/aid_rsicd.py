"""Real scenes on a small machine: AID images with RSICD captions, and mosaics of them for long text.

    lrsclip prepare rsicd_captions.jsonl --image-root=AID --image-key=cls/filename \
        --short-key=captions --label-key=cls --out=DATA/aid
    for split in train valid test; do lrsclip mosaic DATA/aid --split=$split --n=2 \
        --size=224 --count=$([ $split = train ] && echo 4000 || echo 500) --out=DATA/mosaics; done
    cp dinov2_vits14.safetensors DATA

Two runs: the text tower and both projections against the frozen image tower, then everything from there on.

    lrsclip train --config=aid_rsicd:DATA --workdir=runs/aid_frozen --config.epochs=1.25 \
        --config.optimizer.freeze="('image/(?!projection).*',)"
    lrsclip train --config=aid_rsicd:DATA --workdir=runs/aid --config.epochs=0.75 \
        --config.model.init=runs/aid_frozen --config.model.image_init=None --config.optimizer.learning_rate=3e-4 \
        --config.optimizer.lr_rules="(('image/(?!projection).*', 0.1),)"

benchmarks/README.md has the table, and how the learning rates were chosen (--config.eval.sources=DATA/aid:valid).
"""

from lrsclip_jax.config import defaults


def get_config(data):
    config = defaults()
    config.model.name = "vits14"
    config.model.init = "random"
    config.model.image_init = f"{data}/dinov2_vits14.safetensors"
    config.model.image.size = 112
    config.model.text.width = 256
    config.model.text.layers = 4
    config.model.text.heads = 4
    config.model.text.context_length = 248

    config.data.sources = ((f"{data}/aid:train", 2.0), (f"{data}/mosaics:train", 1.0))
    config.data.long_length = 112  # mosaics of four: 82 to 111 tokens
    config.data.short_length = 40
    config.data.crop_scale = None

    config.loss.long_weight = 0.5  # one pair in three has a long text
    config.loss.same_text = "ignore"  # RSICD's captions repeat within and between images
    config.loss.max_scale = 100.0

    config.batch_size = 64
    config.epochs = 1.0
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.decay_rules = ((".*(bias|scale|embedding)", 0.0),)
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 20
    config.optimizer.clip_norm = 1.0

    config.eval.sources = (f"{data}/aid:test", f"{data}/mosaics:test")
    config.eval.truncations = (20, 77)
    config.checkpoint.every_steps = 50
    return config
