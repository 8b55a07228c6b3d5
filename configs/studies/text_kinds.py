"""Table VII: CLIP trained on short texts alone, on long texts alone, and LRSCLIP on both.

lrsclip study text_kinds --workdir=studies
"""

from lrsclip_jax.studies import Claim, Study, Variant, setting

SHORT, LONG, BOTH = "CLIP LRS2M-S", "CLIP LRS2M-L", "LRSCLIP LRS2M"
# CLIP's architecture: 77 tokens, and all rows of the position table are trained.
CLIP = {"model.text.context_length": 77, "model.text.frozen_positions": 0, "data.long_length": 77}


def get_study(data=""):
    clip = CLIP | ({"data.short_length": 77} if data else {})
    return Study(
        title="CLIP trained on one kind of text against LRSCLIP",
        table="lrsclip:VII",
        setting=setting(data),
        variants=(
            Variant({"method": "CLIP", "data": "LRS2M-S"}, clip | {"loss.long_weight": 0.0}),
            Variant({"method": "CLIP", "data": "LRS2M-L"}, clip | {"loss.long_weight": 1.0}),
            Variant({"method": "LRSCLIP", "data": "LRS2M"}),
        ),
        base=BOTH,
        claims=tuple(
            claim
            for score in ("ZCRL", "ZCRS", "ZIC", "SeLo")
            for claim in (
                Claim("long texts alone are better than short texts alone", score, LONG, (SHORT,)),
                Claim("both kinds of text are better than one", score, BOTH, (SHORT, LONG)),
            )
        ),
        notes=() if data else ("In the miniature, LRS2M stands for the procedural scenes.",),
    )
