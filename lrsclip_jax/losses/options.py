"""The options of the loss, `config.loss`, checked once for training and planning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from lrsclip_jax.config.checks import loss_faults
from lrsclip_jax.config.facts import kinds_used
from lrsclip_jax.errors import InputError, nearest

_CHOICES = {
    "name": ("info_nce", "sigmoid"),
    "form": ("full", "gather", "ring"),
    "gradient": ("full", "reference"),
    "same_text": ("negative", "ignore"),
    "same_image": ("negative", "positive"),
    "preserve_kind": ("features", "similarity"),
}


@dataclass(frozen=True)
class LossOptions:
    """How the loss is computed; every field is the key of `config.loss` with the same name.

    Attributes:
      long_weight: ω of LRSCLIP Eq. 5, in [0, 1]: a number, or breakpoints (step, weight), see `long_weight_at`; the
        config's breakpoints may be shares of the run, which `in_steps` turns into steps.
      label_smoothing: as in `info_nce`, for both terms.
      same_text: "negative", equal texts in a batch are each other's negatives, as in the reference code, or "ignore",
        they are not.
      gradient: "full", the loss's own, or "reference", that of LRSCLIP's code. It gathers features without their
        gradient, so that images learn from image → text alone and texts from text → image alone. The loss and the
        gradient of the logit scale are the same.
      pcm_components: 0, or the number of components to which `reduce_to_components` reduces the images of the short
        term.
      pcm_scope: "global" or "group:N", over which pairs those components are taken.
      form: "full", "gather" or "ring". They differ in memory and traffic only, where B pairs of width D are split
        over n devices: "full" holds all logits, B·B over all devices; "gather" the features of all, B·D, and chunk·B
        logits on each device; "ring" only its share of the features, B/n·D, and chunk·B/n logits.
      chunk: rows of logits that "gather" and "ring" hold at a time on a device; 0: all.
      max_scale: limit of the logit scale, or None, see `clamp_logit_scale`.
      name: "info_nce", or "sigmoid", SigLIP's loss.
      same_image: "negative", or "positive": all texts of an image in a batch are its positives, in both directions,
        whether `same_text` would ignore them or not.
      text_pca: None, or how much of the long texts `principal_part` keeps for a further term of the loss: a share of
        their variance, a float, or a number of directions, an int.
      text_pca_weight: of that term.
      rising: weight of a further term, `own_texts_loss`, by which long texts score above short ones of the same image
        that have fewer tokens; 0: no such term.
      hard_negatives: weight of the same term for short texts and their hard negatives; 0: no such term.
      preserve: weight of a further term, `preserve.preservation`, which holds the model to a teacher; 0: no such term.
      preserve_kind: "features" or "similarity", what of the teacher is preserved.
      patches: weight of a further term, `patches.region_loss`, by which the patches of a region are what a crop of it
        is; 0: no such term.

    Raises:
      InputError: an unknown choice, an impossible weight or chunk, an option that the sigmoid loss has not.
    """

    long_weight: float | tuple[tuple[float, float], ...] = 0.8
    label_smoothing: float = 0.0
    same_text: str = "negative"
    gradient: str = "full"
    pcm_components: int = 0
    pcm_scope: str = "global"
    form: str = "full"
    chunk: int = 0
    max_scale: float | None = None
    name: str = "info_nce"
    same_image: str = "negative"
    text_pca: float | int | None = None
    text_pca_weight: float = 1.0
    rising: float = 0.0
    hard_negatives: float = 0.0
    preserve: float = 0.0
    preserve_kind: str = "features"
    patches: float = 0.0

    def __post_init__(self) -> None:
        _breakpoints(self.long_weight)
        for key, choices in _CHOICES.items():
            if (value := getattr(self, key)) not in choices:
                raise InputError(f"loss.{key}={value!r} is not one of {', '.join(choices)}{nearest(value, choices)}")
        if self.chunk < 0:
            raise InputError(f"loss.chunk={self.chunk} must be a number of rows, or 0 for all at once")
        if fault := next(loss_faults(self), None):
            raise InputError(fault)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The texts that are true: a kind that weighs the number 0 at every step is not even encoded."""
        return kinds_used(self.long_weight)

    @property
    def views(self) -> int:
        """How many views of an image are encoded: the patch term adds a crop."""
        return 2 if self.patches else 1

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts that the loss looks at: these kinds, and "negative" where there are hard negatives."""
        return (*self.kinds, "negative") if self.hard_negatives else self.kinds

    @property
    def more_terms(self) -> int:
        """How many terms with all pairs of a batch the loss has besides one for each of the texts."""
        return int(self.text_pca is not None) - int(self.hard_negatives > 0)


def loss_options(config: ConfigDict) -> LossOptions:
    """Returns the options that `config.loss` spells; InputError for an impossible one."""
    values = {field.name: config[field.name] for field in fields(LossOptions)}
    if isinstance(values["long_weight"], list | tuple):  # lists, where the config was read from JSON
        values["long_weight"] = tuple(
            tuple(point) if isinstance(point, list | tuple) else point for point in values["long_weight"]
        )
    return LossOptions(**values)


def in_steps(
    long_weight: float | tuple[tuple[float, float], ...], total_steps: int
) -> float | tuple[tuple[float, float], ...]:
    """Returns a weight whose breakpoints are at steps of a run, from `config.loss.long_weight`.

    Breakpoints at whole numbers are at steps already. Where one has a decimal point, all are shares of the run:
    `((0.0, 1.0), (0.5, 0.2))` falls from the first step to the middle of the run, however long that is.
    """
    if isinstance(long_weight, int | float) or all(isinstance(place, int) for place, _ in long_weight):
        return long_weight
    return tuple((place * total_steps, weight) for place, weight in long_weight)


def long_weight_at(long_weight: float | Sequence[tuple[float, float]], step: jax.Array | int) -> jax.Array | float:
    """Returns the weight ω of the long text at a step, from `config.loss.long_weight`.

    A number holds for every step and stays a Python number. Breakpoints (step, weight) are joined by straight
    lines, and held before the first and after the last: with `((0, 0.2), (1000, 0.8))` a run begins mostly
    on short texts and goes over to long ones.
    """
    steps, weights = _breakpoints(long_weight)
    return long_weight if isinstance(long_weight, int | float) else jnp.interp(step, steps, weights)


def _breakpoints(long_weight: float | Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the steps and the weights, float32 [N]; InputError unless they are sound."""
    points = [(0, long_weight)] if isinstance(long_weight, int | float) else long_weight
    try:
        steps, weights = np.asarray(points, np.float32).T
        sound = bool((np.diff(steps) > 0).all() and ((0 <= weights) & (weights <= 1)).all())
    except (TypeError, ValueError):
        sound = False
    if not sound:
        raise InputError(
            f"loss.long_weight={long_weight!r} must be a number from 0 to 1, or breakpoints (step, weight) "
            "with rising steps such as ((0, 0.2), (1000, 0.8))"
        )
    return steps, weights
