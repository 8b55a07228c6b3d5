"""Table VIII: the long text's first sentence as the short text.

lrsclip study first_sentence --workdir=studies
"""

from lrsclip_jax.studies import Claim, Study, Variant, setting

FIRST, SHORT = "First Text", "Short Text"


def get_study(data=""):
    return Study(
        title="the long text's first sentence as the short text",
        table="lrsclip:VIII",
        setting=setting(data),
        variants=(Variant({"short": FIRST}, {"data.short_text": "first_sentence"}), Variant({"short": SHORT})),
        base=SHORT,
        claims=(
            Claim("retrieval with long texts is similar", "ZCRL", SHORT, (FIRST,), within=1.5),
            Claim("short texts of their own are better for retrieval with short texts", "ZCRS", SHORT, (FIRST,)),
            Claim("short texts of their own are better for classification", "ZIC", SHORT, (FIRST,)),
            Claim("short texts of their own are better for localisation", "SeLo", SHORT, (FIRST,)),
        ),
    )
