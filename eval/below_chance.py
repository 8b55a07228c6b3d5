"""Whether a classification is so far below chance that its labels and its texts must disagree.

Chance is that of the predictions themselves: with labels in random order, a share of Σ n m / N² of the images would be
right, n of which have a class and m are put into it. That holds for unequal classes, too: a model that puts all images
into one class is right by chance, not below it.
"""

from __future__ import annotations

import numpy as np

LEVEL = 1e-3  # so rarely are as few right by chance


def below_chance(confusion: np.ndarray) -> dict[str, str]:
    """Returns `{"warning": …}` for accuracies that chance reaches 999 times in 1,000, or else nothing.

    The bound is the binomial tail of the right images. A model that knows nothing may stand below it, too: it may take
    one class for another throughout. So the warning tells how many would be right if the classes exchanged their texts
    in the best way; where these are many, labels and texts are out of step.

    Args:
      confusion: counts [C, C], true classes down and predicted ones across.
    """
    confusion = np.asarray(confusion)
    images, right = int(confusion.sum()), int(confusion.trace())
    chance = float(confusion.sum(axis=1) @ confusion.sum(axis=0)) / images**2
    if right >= images * chance:
        return {}
    from scipy import optimize, special  # they take a while to load, and are rarely needed

    if special.bdtr(right, images, chance) >= LEVEL:
        return {}
    matched = 100 * confusion[optimize.linear_sum_assignment(confusion, maximize=True)].sum() / images
    said = (
        f"{100 * right / images:.2f} per cent are right, below chance ({100 * chance:.2f}): labels and texts disagree, "
        f"or the model knows none of these classes; with the texts of other classes up to {matched:.2f} would be right"
    )
    return {"warning": said}
