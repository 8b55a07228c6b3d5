"""Fig. 7: the batch size.

lrsclip study batch_size --workdir=studies
"""

from lrsclip_jax.studies import Claim, Study, Variant, setting


def get_study(data=""):
    sizes = (64, 128, 256, 512) if data else (16, 32, 64, 128)
    least, most = str(sizes[0]), str(sizes[-1])
    return Study(
        title="the batch size",
        table="lrsclip:fig7",
        setting=setting(data),
        variants=tuple(Variant({"batch": str(size)}, {"batch_size": size}) for size in sizes),
        base=most,
        claims=(
            Claim("a larger batch is better for retrieval with long texts", "ZCRL", most, (least,)),
            Claim("a larger batch is better for retrieval with short texts", "ZCRS", most, (least,)),
            Claim("a larger batch is better for classification", "ZIC", most, (least,)),
            Claim("the largest batch is slightly better for localisation", "SeLo", most, (least,)),
        ),
        notes=("All batch sizes have the same learning rate and see the same pairs: the paper says of neither.",),
    )
