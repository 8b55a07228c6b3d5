"""Fig. 8: the size of the corpus, one pass over a part of it.

lrsclip study subset_size --workdir=studies
"""

from lrsclip_jax.studies import Claim, Study, Variant, setting

PAPER = {name: {"epochs": share} for name, share in (("0.5 M", 0.25), ("1 M", 0.5), ("1.5 M", 0.75), ("2 M", 1.0))}
MINIATURE = {f"{count:,} scenes": {"data.sources": (f"scenes:{count}:0",)} for count in (1000, 2000, 3000, 4000)}


def get_study(data=""):
    changes = PAPER if data else MINIATURE
    *parts, whole = changes
    return Study(
        title="the size of the corpus",
        table="lrsclip:fig8",
        setting=setting(data),
        variants=tuple(Variant({"pairs": name}, changes[name]) for name in changes),
        base=whole,
        claims=(
            Claim("the whole corpus is best for retrieval with long texts", "ZCRL", whole, tuple(parts)),
            Claim("the whole corpus is best for retrieval with short texts", "ZCRS", whole, tuple(parts)),
            Claim("half of the corpus classifies as well as all of it", "ZIC", whole, (parts[1],), within=1.5),
            Claim("the whole corpus is best for localisation", "SeLo", whole, tuple(parts)),
        ),
        notes=("A part of an epoch is one pass over a random part of the corpus.",) if data else (),
    )
