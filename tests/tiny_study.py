"""A study of two weights of the loss, with a model of width 8 on a few procedural scenes."""

from lrsclip_jax.studies import Claim, Setting, Study, Variant

KEYS = {
    "model.image.layers": 1,
    "model.image.width": 8,
    "model.image.heads": 1,
    "model.image.patch": 32,
    "model.image.embed_dim": 8,
    "model.image.remat": "none",
    "model.text.remat": "none",
    "model.text.layers": 1,
    "model.text.width": 8,
    "model.text.heads": 1,
    "model.text.embed_dim": 8,
    "model.text.context_length": 16,
    "data.sources": ("scenes:40:0",),
    "data.long_length": 16,
    "data.short_length": 16,
    "batch_size": 8,
    "epochs": 0.8,
    "optimizer.warmup_steps": 0,
    "eval.sources": ("scenes:24:1",),
    "eval.every_steps": 0,
    "eval.truncations": (),
    "checkpoint.every_steps": 2,
    "log.every_steps": 1,
    "log.tensorboard": False,
}


def get_study(data=""):
    return Study(
        title="two weights",
        table="lrsclip:fig10",
        setting=Setting("quickstart", KEYS),
        variants=(
            Variant({"ratio": "8:2"}, {"loss.long_weight": 0.8}),
            Variant({"ratio": "1:9"}, {"loss.long_weight": 0.1}),
        ),
        base="8:2",
        claims=(Claim("the long text helps", "ZCRL", "8:2", ("1:9",)),),
        seeds=2,
    )
