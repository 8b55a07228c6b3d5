"""Images mirrored and turned together with the words of their texts, which neither paper does.

lrsclip study turns --workdir=studies
"""

from lrsclip_jax.studies import Claim, Study, Variant, setting

NONE, FLIPS, ALL = "as they are", "mirrored", "mirrored and turned"
TURNS = {NONE: "none", FLIPS: "flips", ALL: "all"}


def get_study(data=""):
    return Study(
        title="images turned with the words of their texts",
        heads={"images": "Images"},
        setting=setting(data),
        variants=tuple(Variant({"images": name}, {"data.augmentation.turns": TURNS[name]}) for name in TURNS),
        base=NONE,
        claims=tuple(
            Claim(f"images in all turns are better for {what}", score, ALL, (NONE,))
            for score, what in (
                ("ZCRL", "retrieval with long texts"),
                ("ZCRS", "retrieval with short texts"),
                ("ZIC", "classification"),
            )
        ),
        notes=("These are claims of this project. Neither paper turns images.",),
    )
