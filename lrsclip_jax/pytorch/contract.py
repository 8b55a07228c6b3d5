"""`ReadCheckpoint`, which every reader of checkpoints returns, and `Hints`, which a user gives them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.data.tokenizer import Tokenizer


@dataclass(frozen=True)
class Hints:
    """Facts that a user states about a checkpoint whose files do not hold them.

    Attributes:
      model: name of a published model, see `lrsclip_jax.pytorch.families.known_models`.
      activation: of both towers, "quick_gelu" or "gelu".
      image_heads, text_heads: numbers of attention heads.
      base: the source of weights that an adapter of PEFT belongs to.
    """

    model: str | None = None
    activation: str | None = None
    image_heads: int | None = None
    text_heads: int | None = None
    base: str | None = None


@dataclass(frozen=True)
class ReadCheckpoint:
    """The weights of a source, in the layout of lrsclip_jax.

    Attributes:
      family: whose layout the source has, such as "Long-CLIP".
      params: what it holds of {"image": …, "text": …, "logit_scale": scalar}, float32 numpy, and "logit_bias" of a
        model of the sigmoid loss. A tower pretrained alone has no "projection".
      image: fields of `models.vit.ViT`, all that shape its function, or of `models.resnet.ResNet` and then "kind", the
        key of `zoo.IMAGE_TOWERS`; None without an image tower.
      text: fields of `models.text.TextTransformer`, `models.bert_tower.Bert` or `models.siglip_text.SiglipText`, and
        "kind", the key of `zoo.TEXT_TOWERS`.
      preprocessing: that the image tower was trained with; None without an image tower.
      tokenizer: of the texts, where it comes with the source; None where it ships (`data.tokenizer`), or is missing.
      antialias: how the family resizes its table of image positions.
      reasons: where a value comes from that tensors do not show: {"image.activation": "config.json"}.
      unused: names of the tensors that nothing was made of.
      base: of an adapted run's checkpoint what it says of its base, and the patterns of the run's `model.adapt_with`.
    """

    family: str
    params: dict[str, Any]
    image: dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    preprocessing: Preprocessing | None = None
    tokenizer: Tokenizer | None = None
    antialias: bool = True
    reasons: dict[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    base: dict[str, Any] | None = None
