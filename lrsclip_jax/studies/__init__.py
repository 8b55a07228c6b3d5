"""Studies: variants of a recipe times seeds, trained and measured, as a table next to the papers'.

A study is a file with `get_study(data="")`, found by name as recipes are, in configs/studies:

    def get_study(data: str = "") -> Study:
        return Study(
            title="the weights of long and short text in the loss",
            table="lrsclip:fig10",
            setting=setting(data),
            variants=tuple(Variant({"ratio": f"{n}:{10 - n}"}, {"loss.long_weight": n / 10}) for n in range(9, 0, -1)),
            base="8:2",
        )
"""

from lrsclip_jax.studies.settings import setting
from lrsclip_jax.studies.study import Claim, Measured, Setting, Study, Variant

__all__ = ["Claim", "Measured", "Setting", "Study", "Variant", "setting"]
