"""Table IX: fine-tuned from Long-CLIP or from CLIP.

lrsclip study initialisation --workdir=studies

The miniature first trains stand-ins on other scenes: for CLIP on short texts of 77 tokens at most, for Long-CLIP on
long texts and their first sentences with PCM.
"""

from lrsclip_jax.studies import Claim, Study, Variant, setting

CLIP = {
    "data.sources": ("scenes:4000:2",),
    "loss.long_weight": 0.0,
    "model.text.context_length": 77,
    "data.long_length": 77,
}
LONG_CLIP = {"data.sources": ("scenes:4000:2",), "data.short_text": "first_sentence", "loss.pcm_components": 8}


def get_study(data=""):
    if data:
        variants = (Variant({"from": "Long-CLIP"}, {"model.init": f"{data}/longclip"}), Variant({"from": "CLIP"}))
    else:
        variants = (
            Variant({"from": "Long-CLIP"}, start=LONG_CLIP),
            Variant({"from": "CLIP"}, start=CLIP),
        )
    return Study(
        title="fine-tuned from Long-CLIP or from CLIP",
        table="lrsclip:IX",
        setting=setting(data),
        variants=variants,
        base="CLIP",
        claims=(
            Claim("Long-CLIP is slightly better for retrieval with long texts", "ZCRL", "Long-CLIP", ("CLIP",)),
            Claim("CLIP is better for retrieval with short texts", "ZCRS", "CLIP", ("Long-CLIP",)),
            Claim("CLIP is better for classification", "ZIC", "CLIP", ("Long-CLIP",)),
            Claim("localisation is similar", "SeLo", "CLIP", ("Long-CLIP",), within=0.01),
        ),
        notes=("The paper's size takes Long-CLIP from DATA/longclip.",),
    )
