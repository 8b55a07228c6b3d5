"""Table VI: primary component matching.

lrsclip study pcm --workdir=studies
"""

from lrsclip_jax.studies import Claim, Study, Variant, setting

PAPER = {"loss.pcm_components": 32, "loss.pcm_scope": "group:64"}  # of 512 dimensions, of a GPU's pairs: Long-CLIP's
MINIATURE = {"loss.pcm_components": 8}  # of 64 dimensions


def get_study(data=""):
    return Study(
        title="primary component matching (PCM)",
        table="lrsclip:VI",
        setting=setting(data),
        variants=(Variant({"pcm": "True"}, PAPER if data else MINIATURE), Variant({"pcm": "False"})),
        base="False",
        claims=(
            Claim("PCM is better for retrieval with long texts", "ZCRL", "True", ("False",)),
            Claim("retrieval with short texts is similar with and without PCM", "ZCRS", "True", ("False",), within=1.5),
            Claim("classification is slightly better without PCM", "ZIC", "False", ("True",)),
            Claim("localisation is slightly better without PCM", "SeLo", "False", ("True",)),
        ),
    )
