"""Fig. 9: the size of the model.

lrsclip study model_size --workdir=studies
"""

from lrsclip_jax.studies import Claim, Study, Variant, setting

MINIATURE = {
    "patch 16": {"model.image.patch": 16},
    "patch 8": {},
    "patch 8, larger": {
        "model.image.width": 96,
        "model.image.layers": 4,
        "model.image.heads": 3,
        "model.text.width": 96,
        "model.text.layers": 3,
        "model.text.heads": 3,
    },
}


def get_study(data=""):
    paper = {
        "ViT-B/32": {"model.name": "vitb32", "model.init": f"{data}/clip_b32"},
        "ViT-B/16": {},
        "ViT-L/14": {"model.name": "vitl14", "model.init": f"{data}/clip_l14"},
    }
    changes = paper if data else MINIATURE
    coarse, fine, large = changes
    return Study(
        title="the size of the model",
        table="lrsclip:fig9",
        setting=setting(data),
        variants=tuple(Variant({"size": name}, changes[name]) for name in changes),
        base=fine,
        claims=tuple(
            claim
            for score in ("ZCRL", "ZCRS", "ZIC", "SeLo")
            for claim in (
                Claim("smaller patches are better", score, fine, (coarse,)),
                Claim("the largest model is better", score, large, (fine,)),
            )
        ),
        notes=("The paper's size takes OpenAI's ViT-B/32 and ViT-L/14 from DATA/clip_b32 and DATA/clip_l14.",),
    )
