"""How much arithmetic a model is: FLOPs of its matrix products, counted from its dimensions.

Counted are the products with 2·m·k·n FLOPs each, as usual; norms, activations, softmax and the optimizer are not (a
few per cent of the time, less of the arithmetic). Two totals matter:

- `useful`, the numerator of MFU: forward once, backward twice as much, nothing that is computed again; of causal
  attention only what the mask lets through.
- `executed`, what the devices do: causal attention in full (`models.attention` skips up to a quarter of its scores for
  rows of 256, which is not taken off here), and all that rematerialisation and accumulation repeat.

Both are polynomials of what goes through the text tower: dense layers are linear in the tokens, attention in the sum of
the squared lengths. So a step's useful work is that of its texts' true lengths, and its executed work that of the slots
they lie in, rows of padding or packed rows (`Texts`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from lrsclip_jax.models.bert_tower import Bert
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.models.resnet import ResNet
from lrsclip_jax.models.siglip_text import SiglipText
from lrsclip_jax.models.text import TextTransformer
from lrsclip_jax.models.vit import ViT

Tower = ViT | ResNet | TextTransformer | Bert | SiglipText

_STORED = (("qkv", "qkv"), ("values", "attention"), ("fc1", "mlp_hidden"), ("gate", "mlp_hidden"))  # by which name
_KERNELS = ("qkv", "out", "fc1", "gate", "fc2")  # in the blocks
POOLED = ("pooler", "projection")  # the products that take one token of a text
BACKWARD = 2  # a product's backward pass is two products of its size, one for each operand's gradient

# How often a form of the loss multiplies features [B, D] × [D, B] for one kind of text, both passes together. One
# product and its backward pass are needed. "ring" computes its blocks again for the backward pass; "gather" does, too,
# and multiplies separately for images as queries and for texts. The sigmoid loss has the images as queries alone, and
# its "ring" has value and gradient of a block at once.
LOGIT_PRODUCTS = {
    "info_nce": {"full": 1 + BACKWARD, "ring": 2 + BACKWARD, "gather": 2 * (2 + BACKWARD)},
    "sigmoid": {"full": 1 + BACKWARD, "ring": 1 + BACKWARD, "gather": 2 + BACKWARD},
}


@dataclass(frozen=True)
class Product:
    """The matrix product [m, k] × [k, n], done `count` times for one example in a forward pass.

    `weights` says that the second operand is a parameter, the same for every example. `causal` attention has a mask,
    and in a row of m tokens all that it hides is computed, and thrown away. Of a convolution m counts pixels, and k the
    numbers of all `taps` pixels under its kernel.
    """

    name: str
    m: int
    k: int
    n: int
    count: int = 1
    weights: bool = True
    causal: bool = False
    taps: int = 1

    @property
    def flops(self) -> int:
        return 2 * self.m * self.k * self.n * self.count


@dataclass(frozen=True)
class Texts:
    """What goes through the text tower, or as images of any shape through the other, as far as FLOPs depend on it.

    Attributes:
      count: of the texts, each pooled and projected once.
      tokens: of all of them together.
      squares: the sum of their squared lengths; of R rows of N slots that are computed R·N², for attention computes
        the whole row and masks its other texts.
    """

    count: float = 0
    tokens: float = 0
    squares: float = 0

    @classmethod
    def of(cls, lengths: Iterable[int]) -> Texts:
        """Texts of these lengths, each in a row of its own that it fills."""
        lengths = [*lengths]
        return cls(len(lengths), sum(lengths), sum(length**2 for length in lengths))

    def __add__(self, other: Texts) -> Texts:
        return Texts(self.count + other.count, self.tokens + other.tokens, self.squares + other.squares)

    def __mul__(self, times: float) -> Texts:
        return Texts(self.count * times, self.tokens * times, self.squares * times)


def products(tower: Tower, length: int, in_memory: bool = False) -> list[Product]:
    """Returns the products of one example's forward pass through a tower.

    Args:
      tower: the module, of which only the fields are read.
      length: of the text in tokens; of an image tower `tokens(tower)`.
      in_memory: whether its features come from memory, so that the projection alone is computed.
    """
    if isinstance(tower, ResNet):
        projection = [Product("projection", 1, tower.feature_width, tower.embed_dim)]
        return projection if in_memory else [*_convolutions(tower), *_attention_head(tower, length), *projection]
    width, layers, heads = tower.width, tower.layers, tower.heads
    head, hidden = width // heads, tower.mlp_width or 4 * width
    projects = not isinstance(tower, ViT) or tower.projects
    projection = [Product("projection", 1, width, tower.embed_dim)] if projects else []
    if in_memory:
        return projection
    causal = isinstance(tower, TextTransformer)
    found = [
        Product("qkv", length, width, 3 * width, layers),
        Product("scores", length, head, length, layers * heads, weights=False, causal=causal),
        Product("values", length, length, head, layers * heads, weights=False, causal=causal),
        Product("out", length, width, width, layers),
        Product("fc1", length, width, hidden, layers),
        Product("fc2", length, hidden, width, layers),
    ]
    if isinstance(tower, ViT) and tower.gated:
        found.insert(5, Product("gate", length, width, hidden, layers))
    if isinstance(tower, ViT):
        found.insert(0, Product("patch_embedding", length - tower.first_patch, tower.channels * tower.patch**2, width))
        found += _head(tower, length) if tower.pool == "map" else []
    if isinstance(tower, Bert) and tower.pool == "pooler":
        found.append(Product("pooler", 1, width, width))
    return found + projection


def _convolutions(tower: ResNet) -> list[Product]:
    """A ResNet's: those of the stem, and of each bottleneck; pools halve the maps between them."""

    def convolution(map_side: int, channels: int, features: int, side: int = 3) -> Product:
        return Product("convolution", map_side**2, side**2 * channels, features, taps=side**2)

    side, half = tower.size // 2, tower.width // 2
    found = [convolution(side, channels, half) for channels in (tower.channels, half)]
    found.append(convolution(side, half, tower.width))
    side, channels = side // 2, tower.width
    for stage, count in enumerate(tower.stages):
        width = tower.width * 2**stage
        for number in range(count):
            shrunk = side // 2 if stage and not number else side
            found += [convolution(side, channels, width, 1), convolution(side, width, width)]
            found += [convolution(shrunk, given, 4 * width, 1) for given in (width, channels)[: 1 if number else 2]]
            side, channels = shrunk, 4 * width
    return found


def _attention_head(tower: ResNet, length: int) -> list[Product]:
    """A ResNet's head: one query over the mean and the cells of its last map."""
    width, head = tower.feature_width, tower.feature_width // tower.heads
    return [
        Product("head_query", 1, width, width),
        Product("head_key_value", length, width, width, 2),
        Product("head_scores", 1, head, length, tower.heads, weights=False),
        Product("head_values", 1, length, head, tower.heads, weights=False),
    ]


def _head(tower: ViT, length: int) -> list[Product]:
    """SigLIP's head: one query over all tokens, and an MLP."""
    width, head, hidden = tower.width, tower.width // tower.heads, tower.mlp_width or 4 * tower.width
    return [
        Product("head_qkv", length + 1, width, 3 * width),
        Product("head_scores", 1, head, length, tower.heads, weights=False),
        Product("head_values", 1, length, head, tower.heads, weights=False),
        Product("head_out", 1, width, width),
        Product("head_fc1", 1, width, hidden),
        Product("head_fc2", 1, hidden, width),
    ]


def tokens(tower: ViT | ResNet) -> int:
    """Returns the tokens of an image in training: class token, registers, and the patches that patch dropout leaves."""
    patches = (tower.size // tower.patch) ** 2
    return tower.first_patch + patches - round(tower.patch_dropout * patches)


def work_on_images(tower: ViT | ResNet, images: Texts, chosen: Callable[[list[Product]], Iterable[Product]]) -> Work:
    """Returns the FLOPs of some products of an image tower on images of any numbers of tokens.

    `chosen` picks them of those of one image; they are a polynomial of its tokens, of the second degree. That each has
    positions of its own shape, a hundredth of a tower's work, is not counted.
    """
    zero, one, two = (work(chosen(products(tower, length))) for length in range(3))
    squared = (zero + two) * 0.5 + one * -1
    return zero * images.count + (one + zero * -1 + squared * -1) * images.tokens + squared * images.squares


def recomputed(tower: Tower, forward: Iterable[Product]) -> list[Product]:
    """Returns those products of a tower's forward pass that its backward pass repeats, as its `remat` says.

    The last product of a block, fc2, only feeds the residual stream and is not among them, but for BERT: there a
    norm follows, whose backward pass needs its result.
    """
    kind, _, stored = tower.remat.partition(":")
    last = {"fc2"} if isinstance(tower, Bert) else set()
    repeated = {
        "none": set(),
        "dense": {"scores", "out" if tower.attention == "rows" else "values"},
        "full": {"convolution", "qkv", "scores", "values", "out", "fc1", "gate"} | last,
        # The backward pass of softmax needs its weights, so the scores come again even if their use is stored.
        "names": {"scores", "out"} | last | {product for product, name in _STORED if name not in stored.split(",")},
    }[kind]
    return [product for product in forward if product.name in repeated]


@dataclass(frozen=True)
class Work:
    """FLOPs of some products: dense layers, attention, and how much of the latter a causal mask throws away."""

    dense: float = 0
    attention: float = 0
    masked: float = 0

    @property
    def executed(self) -> float:
        return self.dense + self.attention

    @property
    def useful(self) -> float:
        return self.executed - self.masked

    def __add__(self, other: Work) -> Work:
        return Work(self.dense + other.dense, self.attention + other.attention, self.masked + other.masked)

    def __mul__(self, times: float) -> Work:
        return Work(self.dense * times, self.attention * times, self.masked * times)


def work(counted: Iterable[Product]) -> Work:
    """Returns the FLOPs of products."""
    total = Work()
    for product in counted:
        hidden = (product.m - 1) / (2 * product.m) if product.causal else 0
        total += Work(product.flops) if product.weights else Work(0, product.flops, product.flops * hidden)
    return total


def work_on(texts: Texts, counted: Iterable[Product]) -> Work:
    """Returns the FLOPs, on texts of any lengths, of products that are given for a text of one token."""
    total = Work()
    for product in counted:
        hidden = (texts.squares - texts.tokens) / 2 if product.causal else 0
        if product.weights:
            total += Work(product.flops * (texts.count if product.name in POOLED else texts.tokens))
        else:
            total += Work(0, product.flops * texts.squares, product.flops * hidden)
    return total


@dataclass(frozen=True)
class PairWork:
    """FLOPs of one training step for one pair, an image with its texts.

    Attributes:
      image: forward passes through the image tower, one for each view.
      texts: forward passes through the text tower, one for each of the texts asked for.
      backward: of all towers that learn, twice their forward passes, less what adapters spare.
      remat: what blocks compute again for the backward pass.
      accumulation: the second forward pass when a batch is taken in microbatches.
      logits: the loss's products of features, forward and backward; they grow with the batch.
      loss: those that the form of the loss really executes, in float32.
      teacher: forward passes of the teacher to which `loss.preserve` holds the model.
    """

    image: Work
    texts: tuple[Work, ...]
    backward: Work
    remat: Work
    accumulation: Work
    logits: float
    loss: float
    teacher: Work = Work()

    @property
    def forward(self) -> Work:
        return sum(self.texts, self.image)

    @property
    def towers(self) -> Work:
        """All that the towers do."""
        return self.forward + self.backward + self.remat + self.accumulation + self.teacher

    @property
    def useful(self) -> float:
        """The numerator of MFU."""
        return (self.forward + self.backward + self.teacher).useful + self.logits

    @property
    def executed(self) -> float:
        """What the devices do."""
        return self.towers.executed + self.loss


def train_pair(
    model: CLIP,
    texts: Sequence[int | Texts],
    *,
    batch_size: int,
    microbatches: int = 1,
    loss: str = "info_nce",
    more_terms: int = 0,
    form: str = "full",
    frozen: Collection[str] = (),
    in_memory: Collection[str] = (),
    teacher: bool = False,
    views: int = 1,
    images: Texts | None = None,
) -> PairWork:
    """Returns the FLOPs of a training step for one pair.

    Asked with the slots of a pair, in padded or packed rows, what it says of `executed` is meant; with the true lengths
    of its texts, what it says of `useful`.

    The backward pass is counted as twice the forward pass, as is the custom, which includes a gradient of the pixels
    that nobody computes: less than 0.4 % of it. In a tower with adapters the kernels of the blocks have no gradient.
    The adapters' own products, about a hundredth of the tower's, are not counted.

    Args:
      model: its fields are read, `remat` included.
      texts: what goes through the text tower: lengths in tokens, (248, 77), or a batch's `Texts` over its pairs.
      batch_size: pairs in the global batch, over which the loss compares.
      microbatches: `train.microbatches`.
      loss: `loss.name`.
      more_terms: of the loss, besides one for each of the texts.
      form: `loss.form`.
      frozen: the towers, "image" or "text", of which nothing learns: no gradient is computed there.
      in_memory: the towers whose features come from memory.
      teacher: whether another model encodes the same pair.
      views: of an image that the tower encodes: 2 with the crops of `loss.patches`.
      images: of any shape, those of a pair; None: a square of the tower's size.
    """
    counted = [text if isinstance(text, Texts) else Texts.of([text]) for text in texts]
    if isinstance(model.text, SiglipText):  # every text fills the table of positions
        counted = [Texts.of([model.text.context_length]) * text.count for text in counted]

    def of_image(chosen: Callable[[list[Product]], Iterable[Product]]) -> Work:
        if images is None:
            return work(chosen(products(model.image, tokens(model.image), "image" in in_memory)))
        return work_on_images(model.image, images, chosen)

    of_a_token = products(model.text, 1, "text" in in_memory)
    of_texts = [work_on(text, of_a_token) for text in counted]
    forward = [of_image(list) * views, *of_texts]
    repeats = [of_image(functools.partial(recomputed, model.image)) * views]
    repeats += [work_on(text, recomputed(model.text, of_a_token)) for text in counted]
    kept = [of_image(functools.partial(_unlearnt, model.image)) * views]
    kept += [work_on(text, _unlearnt(model.text, of_a_token)) for text in counted]
    learns = ["image" not in frozen, *["text" not in frozen] * len(texts)]

    def of_those_that_learn(works: Iterable[Work]) -> Work:
        return sum((each for each, trained in zip(works, learns, strict=True) if trained), Work())

    logits = 2 * batch_size * model.image.embed_dim * (more_terms + sum(text.count for text in counted))
    return PairWork(
        image=forward[0],
        texts=tuple(forward[1:]),
        backward=of_those_that_learn(forward) * BACKWARD + of_those_that_learn(kept) * -1,
        remat=of_those_that_learn(repeats),
        accumulation=of_those_that_learn(forward) if microbatches > 1 else Work(),
        logits=logits * (1 + BACKWARD),
        loss=logits * LOGIT_PRODUCTS[loss][form],
        teacher=sum(of_texts, of_image(list)) if teacher else Work(),
    )


def _unlearnt(tower: Tower, found: Sequence[Product]) -> list[Product]:
    """The products of a tower with adapters whose kernels have no gradient."""
    return [product for product in found if tower.adapt and product.name in _KERNELS]


def frozen_towers(trainable: Any) -> frozenset[str]:
    """Returns the towers, "image" or "text", of which nothing learns, from a tree like the parameters of bools."""
    return frozenset(name for name in ("image", "text") if not any(jax.tree.leaves(trainable[name])))
