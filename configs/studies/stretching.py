"""Knowledge-preserved stretching (KPS) against plain interpolation and truncation; the papers argue it and run none.

lrsclip study stretching --workdir=studies

The miniature first trains a stand-in for CLIP on short texts of 77 tokens at most.
"""

from lrsclip_jax.studies import Claim, Study, Variant, setting

KPS, FEWER, WIDER = "KPS, 20 kept", "KPS, 10 kept", "KPS, ratio 8"
PLAIN, CUT = "interpolated", "cut at 77"
CLIP = {
    "data.sources": ("scenes:4000:2",),
    "loss.long_weight": 0.0,
    "model.text.context_length": 77,
    "data.long_length": 77,
}


def get_study(data=""):
    start = None if data else CLIP
    cut = {"model.text.context_length": 77, "data.long_length": 77} | ({"data.short_length": 77} if data else {})
    changes = {
        KPS: {"model.text.keep": 20},
        FEWER: {"model.text.keep": 10},
        WIDER: {"model.text.ratio": 8},  # 476 rows, of which 248 are used: of CLIP's the first 49
        PLAIN: {"model.text.keep": 0} | ({"model.text.frozen_positions": 0} if data else {}),
        CUT: cut,
    }
    return Study(
        title="how the table of text positions becomes longer",
        heads={"positions": "Positions"},
        setting=setting(data),
        variants=tuple(Variant({"positions": name}, changes[name], start) for name in changes),
        base=KPS,
        claims=(
            Claim("longer texts help retrieval with long texts", "ZCRL", KPS, (CUT,)),
            Claim("kept rows help retrieval with short texts", "ZCRS", KPS, (PLAIN,)),
            Claim("kept rows help classification", "ZIC", KPS, (PLAIN,)),
            Claim("retrieval with short texts is as good as with CLIP's own table", "ZCRS", KPS, (CUT,), within=1.5),
        ),
        notes=(
            "These are claims of Long-CLIP, whose stretching LRSCLIP takes over. No table of either paper has them.",
        ),
    )
