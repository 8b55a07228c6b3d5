"""Fig. 10: the weights of long and short text in the loss.

lrsclip study loss_weights --workdir=studies
"""

from lrsclip_jax.studies import Claim, Study, Variant, setting


def get_study(data=""):
    return Study(
        title="the weights of long and short text in the loss",
        table="lrsclip:fig10",
        setting=setting(data),
        variants=tuple(
            Variant({"ratio": f"{long}:{10 - long}"}, {"loss.long_weight": long / 10}) for long in range(9, 0, -1)
        ),
        base="8:2",
        claims=(
            Claim("more weight of the long text helps retrieval with long texts", "ZCRL", "8:2", ("2:8", "1:9")),
            Claim("more weight of the long text helps classification", "ZIC", "8:2", ("2:8", "1:9")),
            Claim(
                "too much weight of the short text harms retrieval with short texts",
                "ZCRS",
                "8:2",
                ("4:6", "3:7", "2:8", "1:9"),
            ),
            Claim("too much weight of the long text harms retrieval with short texts", "ZCRS", "8:2", ("9:1",)),
            Claim(
                "5:5 has the highest R_mi",
                "SeLo",
                "5:5",
                ("9:1", "8:2", "7:3", "6:4", "4:6", "3:7", "2:8", "1:9"),
            ),
            Claim("8:2 keeps a high R_mi, close to that of 5:5", "SeLo", "8:2", ("5:5",), within=0.01),
        ),
    )
