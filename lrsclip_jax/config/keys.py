"""Every key of a training config: its default, the values that it may have, and its meaning, in one table.

`lrsclip_jax.config.defaults()` is made of KEYS. The groups `model.image` and `model.text` take any field of the tower's
class, too; IMAGE_FIELDS and TEXT_FIELDS repeat these fields, because the classes need JAX, which takes seconds to
import. A test holds them equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lrsclip_jax.config.values import (
    Breakpoints,
    Flag,
    Many,
    Matching,
    Named,
    Number,
    OrNone,
    Pattern,
    Row,
    Span,
    Text,
    Values,
    Whole,
    choice,
    either,
    shown,
)
from lrsclip_jax.models.zoo_table import MODELS

# Bounds of what can be asked for: far beyond any use, and far below what memory or a number's type would refuse.
_ROWS = 2**24
_TOKENS = 2**16
_WIDTH = 2**16
_DEPTH = 1024
_SIDE = 2**14
_MINUTES = 366 * 24 * 60.0
_RATE = 1e38  # float32 ends at 3.4e38
_DTYPES = ("float32", "bfloat16", "float16")

_TOKEN_COUNT = Whole(2, _TOKENS)  # a text has a start and an end token at least
_TURNS = choice("none", "flips", "turns", "all")
_SENTENCES = Whole(1, _TOKENS)
_STEPS = Whole(1)
_FRACTION = Number(0.0, 1.0)
_SET = Text("a set such as 'DIR', 'DIR:SPLIT' or 'scenes:COUNT:SEED'")
_WEIGHTED_SET = Row((_SET, Number(1e-9, 1e9)), "a pair of a set and its weight, such as ('DIR', 2.0)")
_EMBEDDINGS = Text("a folder such as 'sets/aid_images'")
_EMBEDDINGS_OF_SOURCES = OrNone(either(_EMBEDDINGS, Many(_EMBEDDINGS, "folders", "('sets/a', 'sets/b')")))
_WEIGHTS = Text("a text such as 'runs/b16' or 'hf:owner/name'")
_RULE = Row(
    (Pattern(), Number(0.0, _RATE), Matching(r"layer_decay=([0-9]{0,18}\.)?[0-9]{1,18}", "'layer_decay=NUMBER'")),
    "(pattern, factor) or (pattern, factor, 'layer_decay=0.75')",
    optional=1,
)
_RULES = Many(_RULE, "rules", "(('image/.*', 0.1),)")
_PATTERNS = Many(Pattern(), "patterns", "('logit_scale', 'image/blocks/.*[0:6]')")
_PLACES, _RANK = Pattern(rows=False), Whole(1, _WIDTH)
_ADAPTED = Named(
    {
        "lora": Row(
            (_PLACES, choice("lora"), _RANK, Number(0.0, _RATE, above=True), Number(0.0, 1.0, below=True)),
            "(pattern, 'lora', rank), and further alpha (the rank) and dropout (0.0)",
            optional=2,
        ),
        "adapter": Row(
            (_PLACES, choice("adapter"), _RANK), "(pattern, 'adapter'), and further reduction (16)", optional=1
        ),
        "prefix": Row((_PLACES, choice("prefix"), _RANK), "(pattern, 'prefix'), and further length (30)", optional=1),
        "unipelt": Row(
            (_PLACES, choice("unipelt"), _RANK, _RANK, _RANK),
            "(pattern, 'unipelt'), and further length (10), reduction (16) and rank (8)",
            optional=3,
        ),
    }
)
_AXIS = OrNone(choice("data", "fsdp", "tensor"))
_SPLIT = Row(
    (Pattern(rows=False), Many(_AXIS, "axes", "('fsdp', None)")),
    "(pattern, axis of each dimension), such as ('text/.*/kernel', (None, 'fsdp'))",
)
_WATCHED = Row(
    (Text("a score such as 'eval/SET/long/mean_recall'"), Number(0.0, 100.0)),
    "a pair of a score and its margin, such as ('eval/SET/long/mean_recall', 1.0)",
)
_TEMPLATES = ("lrsclip", "rsclip", "rsclip-the", "itra", "georsclip", "skyscript")
_TEMPLATE = either(choice(*_TEMPLATES), Matching(r"[^{}]*\{\}[^{}]*", "a template with {} once, for the class"))
_STORED = "(qkv|attention|mlp_hidden)"
_REMAT = either(
    choice("none", "dense", "full"), Matching(f"names:{_STORED}(,{_STORED})*", "'names:qkv,attention,mlp_hidden'")
)
_COMPONENTS = either(choice("global"), Matching("group:[1-9][0-9]{0,8}", "'group:N' with N pairs"))
_LONG_WEIGHT = either(
    _FRACTION,
    Breakpoints(
        Whole(), _FRACTION, "pairs (step, number from 0 to 1) with rising steps, such as ((0, 0.2), (1000, 0.8))"
    ),
    Breakpoints(
        _FRACTION,
        _FRACTION,
        "pairs (share of the run with a decimal point, number from 0 to 1), such as ((0.0, 0.2), (0.5, 0.8))",
    ),
)


# How a pretrained table of text positions is made longer; the towers' fields and the config's keys say the same.
_KEEP = "first rows of a shorter pretrained position table that stretching (KPS) leaves as they are; 0: none"
_RATIO = "rows that stretching makes of each later row; None: the fewest that reach context_length"
_RATIOS = OrNone(Whole(1, _TOKENS))


class Key(NamedTuple):
    """A key: its name, the default, the values that it may have, and its meaning in one line."""

    name: str
    default: object
    values: Values
    meaning: str


def _draw_keys(group: str, texts: str) -> tuple[Key, ...]:
    """How texts are drawn by their sentences at every step, see lrsclip_jax/data/batches/sentence_draws.py."""
    return (
        Key(f"{group}.drop_first", 0.0, _FRACTION, f"of {texts}: how often the first sentence, the summary, goes"),
        Key(f"{group}.drop", 0.0, _FRACTION, f"of {texts}: how often each sentence that is left goes; one stays"),
        Key(
            f"{group}.sample",
            None,
            OrNone(either(_SENTENCES, Span(_SENTENCES, "the fewest and the most", "(1, 3)"))),
            f"of {texts}: how many of the sentences left are kept at most; None: all",
        ),
        Key(f"{group}.consecutive", 0.0, _FRACTION, f"of {texts}: how often the sampled sentences follow each other"),
        Key(f"{group}.shuffle", 0.0, _FRACTION, f"of {texts}: how often the sentences kept are shuffled"),
        Key(
            f"{group}.shift",
            0,
            Whole(0, _TOKENS),
            f"of {texts}: most rows of the position table by which all tokens but the first are moved",
        ),
    )


_TABLE = (
    Key("seed", 0, Whole(0, 2**32 - 1), "of everything that is drawn: parameters, order of the records, crops, texts"),
    Key("batch_size", 256, Whole(1, _ROWS), "pairs of a step over all devices; the loss is a function of this batch"),
    Key(
        "epochs",
        1.0,
        Number(0.0, 1e6, above=True),
        "length of the run; an epoch is as many samples as all sources hold",
    ),
    Key("model.name", "vitb16", choice(*MODELS), "the model, an entry of lrsclip_jax/models/zoo_table.py"),
    Key(
        "model.init",
        None,
        OrNone(_WEIGHTS),
        "a source of weights, or 'random'; to be given, unless both towers have one",
    ),
    Key("model.image_init", None, OrNone(_WEIGHTS), "a source for the image tower alone"),
    Key("model.text_init", None, OrNone(_WEIGHTS), "a source for the text tower alone"),
    Key("model.dtype", "auto", choice("auto", *_DTYPES), "of the towers' arithmetic; auto: bfloat16, on a CPU float32"),
    Key("model.image.size", 224, Whole(1, _SIDE), "side of the images in pixels"),
    Key("model.image.remat", "dense", _REMAT, "what the image tower's blocks store for the backward pass"),
    Key("model.text.context_length", 248, _TOKEN_COUNT, "rows of the text tower's position table: its longest text"),
    Key("model.text.frozen_positions", 0, Whole(0, _TOKENS), "first rows of that table that are not trained"),
    Key("model.text.remat", "dense", _REMAT, "what the text tower's blocks store for the backward pass"),
    Key("model.text.keep", 20, Whole(0, _TOKENS), _KEEP),
    Key("model.text.ratio", None, _RATIOS, _RATIO),
    Key(
        "model.adapt",
        (),
        Many(_ADAPTED, "rules", "(('image/blocks/attention/.*', 'lora', 8), ('.*/mlp', 'adapter', 16))"),
        "adapters by place in the towers; they and model.adapt_with train, are saved, and the rest stays as it is",
    ),
    Key(
        "model.adapt_with",
        ("(image|text)/projection/.*", "logit_.*"),
        Many(Pattern(rows=False), "patterns", "('(image|text)/projection/.*', 'logit_.*')"),
        "parameters of the model itself that train with the adapters of model.adapt",
    ),
    Key(
        "data.sources",
        (),
        Many(either(_SET, _WEIGHTED_SET), "sets", "('DIR', ('DIR2:SPLIT', 2.0))"),
        "what is trained on, some sets with a weight",
    ),
    Key(
        "data.sampling",
        "draw",
        choice("draw", "pairs"),
        "draw: a record with one long and one short text, drawn each epoch; pairs (RSCLIP): a record with one of its "
        "texts, all of them each epoch, as a long text (loss.long_weight must be 1)",
    ),
    Key("data.long_length", 248, _TOKEN_COUNT, "tokens at which long texts are cut; their length in a batch"),
    Key("data.short_length", 77, _TOKEN_COUNT, "tokens at which short texts are cut; their length in a batch"),
    Key("data.packed", False, Flag(), "whether the texts of a batch share rows, without padding"),
    Key("data.row_length", 256, _TOKEN_COUNT, "tokens of such a row"),
    Key(
        "data.short_text",
        "short",
        choice("short", "first_sentence", "sentences"),
        "the short text; the first sentence of the long one (Long-CLIP; LRSCLIP's ablation); or sentences of the long "
        "one as data.short_draw says (DeBias-CLIP)",
    ),
    Key(
        "data.crop_scale",
        None,
        OrNone(Span(Number(0.0, 1.0, above=True), "two shares of an image's area", "(0.8, 1.0)")),
        "random resized crops of such a share of the area; None: the central square",
    ),
    Key(
        "data.decoder",
        "exact",
        choice("exact", "fast"),
        "exact: as evaluation reads images; fast: JPEG in half the time, nearly the same pixels",
    ),
    Key("data.threads", 0, Whole(0, 1024), "threads that decode; 0: one a core"),
    Key(
        "data.workers",
        0,
        Whole(0, 1024),
        "processes that share these threads, where the Python of one process is the limit; 0: none",
    ),
    Key("data.max_torn", 100, Whole(), "unreadable records that are left out before the run stops"),
    *_draw_keys("data.long_draw", "long texts"),
    *_draw_keys("data.short_draw", "short texts, where data.short_text='sentences'"),
    Key(
        "data.augmentation.turns",
        "none",
        either(_TURNS, Many(_TURNS, "choices, one for each of data.sources", "('all', 'none')")),
        "images turned with the words of their texts: mirrored (flips), by quarters (turns), or both (all)",
    ),
    Key(
        "data.image_features",
        None,
        _EMBEDDINGS_OF_SOURCES,
        "what the frozen image tower gave for the images (lrsclip embed --features=encoder), in place of computing it; "
        "None: it is computed",
    ),
    Key(
        "data.text_features",
        None,
        _EMBEDDINGS_OF_SOURCES,
        "what the frozen text tower gave for the texts (lrsclip embed --features=encoder --tower=text); None: as above",
    ),
    Key(
        "loss.long_weight", 0.8, _LONG_WEIGHT, "weight of the long text (omega of Eq. 5), the rest is the short text's"
    ),
    Key("loss.label_smoothing", 0.0, _FRACTION, "share of the target that is spread over the negatives"),
    Key(
        "loss.same_text",
        "negative",
        choice("negative", "ignore"),
        "ignore: equal captions of a batch are not each other's negatives",
    ),
    Key("loss.temperature", 0.07, Number(1e-6, 1000.0), "temperature at the start, where the weights bring none"),
    Key("loss.learn_temperature", True, Flag(), "whether the temperature is trained"),
    Key("loss.max_scale", None, OrNone(Number(1.0, 1e6)), "greatest 1/temperature (open_clip: 100); None: no limit"),
    Key(
        "loss.pcm_components",
        0,
        Whole(0, _WIDTH),
        "principal components to which the short term reduces images (Long-CLIP: 32); 0: it does not",
    ),
    Key(
        "loss.pcm_scope",
        "global",
        _COMPONENTS,
        "pairs whose components these are: all of a batch, or every N in a row (Long-CLIP: those of a GPU)",
    ),
    Key(
        "loss.gradient",
        "full",
        choice("full", "reference"),
        "reference: that of LRSCLIP's code, which gathers features without their gradient",
    ),
    Key("loss.form", "gather", choice("gather", "ring", "full"), "how the loss is computed; its value is the same"),
    Key("loss.chunk", 1024, Whole(0, _ROWS), "rows of logits that a device holds at a time; 0: all"),
    Key(
        "loss.name",
        "info_nce",
        choice("info_nce", "sigmoid"),
        "info_nce: cross entropy over the batch (CLIP); sigmoid: every image with every text by itself (SigLIP)",
    ),
    Key(
        "loss.sigmoid_temperature",
        0.1,
        Number(1e-6, 1000.0),
        "of the sigmoid loss, in place of loss.temperature: that at the start, where the weights bring none",
    ),
    Key(
        "loss.sigmoid_bias",
        -10.0,
        Number(-1e4, 1e4),
        "of the sigmoid loss: the trained bias of the logits at the start, where the weights bring none",
    ),
    Key(
        "loss.same_image",
        "negative",
        choice("negative", "positive"),
        "positive: all captions of an image in a batch are its positives, in equal shares (SupCon, UniCL)",
    ),
    Key(
        "loss.text_pca",
        None,
        OrNone(either(Number(0.0, 1.0, above=True, below=True), Whole(1, _WIDTH))),
        "a further term, of images with the principal part of a batch's long texts (HiMo-CLIP: 0.85 to 0.9): the share "
        "of the variance that it holds, or how many components; None: no such term",
    ),
    Key("loss.text_pca_weight", 1.0, Number(0.0, 1e6, above=True), "weight of that term, next to both others"),
    Key(
        "loss.preserve",
        0.0,
        Number(0.0, 1e6),
        "weight of a further term that holds the model to a frozen teacher, against forgetting; 0: no such term",
    ),
    Key(
        "loss.preserve_kind",
        "features",
        choice("features", "similarity"),
        "features: no row may move from the teacher's; similarity: what lies close to what in a batch may not change",
    ),
    Key(
        "loss.preserve_teacher",
        None,
        OrNone(_WEIGHTS),
        "weights of the teacher, of the same model; None: those that the run starts from",
    ),
    Key(
        "optimizer.name",
        "sgd",
        choice("sgd", "adamw", "muon", "lion", "schedule_free"),
        "the optimizer: the first two as in PyTorch; muon: the blocks' matrices by Muon, the rest by AdamW; "
        "schedule_free: AdamW whose parameters are an average over the run",
    ),
    Key("optimizer.learning_rate", 3e-4, Number(0.0, _RATE), "of each update, at its peak after the warm-up"),
    Key("optimizer.momentum", 0.9, _FRACTION, "of sgd's momentum buffer: the share that stays; muon's, usually 0.95"),
    Key("optimizer.dampening", 0.1, _FRACTION, "of sgd: share of a gradient that its momentum buffer leaves out"),
    Key(
        "optimizer.b1",
        0.9,
        Number(0.0, 1.0, below=True),
        "of all but sgd: decay of the first moment; schedule_free's average",
    ),
    Key("optimizer.b2", 0.98, Number(0.0, 1.0, below=True), "of all but sgd: decay of the second moment"),
    Key("optimizer.eps", 1e-6, Number(1e-30, 1.0), "of all but sgd and lion: added to the root of the second moment"),
    Key("optimizer.weight_decay", 0.0, Number(0.0, _RATE), "factor of the parameters that each update takes off"),
    Key(
        "optimizer.schedule",
        "constant",
        choice("constant", "cosine", "wsd"),
        "cosine: down to final_learning_rate; wsd: constant, then down to it along a line (warm-up–stable–decay)",
    ),
    Key("optimizer.final_learning_rate", 0.0, Number(0.0, _RATE), "where a cosine or wsd ends"),
    Key("optimizer.warmup_steps", 0, Whole(), "steps of a linear warm-up"),
    Key("optimizer.warmup_epochs", 0.0, Number(0.0, 1e6), "epochs of a linear warm-up, in place of steps"),
    Key(
        "optimizer.clip_norm", None, OrNone(Number(0.0, _RATE, above=True)), "limit of the gradients' norm; None: none"
    ),
    Key("optimizer.lr_rules", (), _RULES, "factors of the learning rate by parameter path; the first match holds"),
    Key("optimizer.decay_rules", (), _RULES, "factors of the weight decay by parameter path; the first match holds"),
    Key("optimizer.freeze", (), _PATTERNS, "parameters that are not trained"),
    Key("optimizer.cooldown", 0.2, Number(0.0, 1.0, above=True), "of wsd: the share of the run in which it falls"),
    Key(
        "train.microbatches",
        1,
        Whole(1, _ROWS),
        "parts of a batch that pass the towers one after the other; the gradient is the same",
    ),
    Key("train.max_skipped", 0, Whole(0, 2**31 - 2), "updates that may be skipped for a loss or gradient not finite"),
    Key(
        "train.watchdog_minutes",
        60.0,
        OrNone(Number(0.0, _MINUTES)),
        "time without a finished step after which a run prints its stacks and exits; 0, None: no limit",
    ),
    Key(
        "train.heartbeat_seconds",
        100,
        Whole(1, 86400),
        "silence after which one of several processes counts as dead",
    ),
    Key(
        "train.compilation_cache",
        "~/.cache/lrsclip_jax",
        OrNone(Text("the path of a folder")),
        "compiled programs; None: no cache",
    ),
    Key(
        "train.ema",
        None,
        OrNone(Number(0.0, 1.0, above=True, below=True)),
        "what an average of the weights keeps of itself at each update, such as 0.999; the average is scored, saved "
        "and exported in the place of the weights; None: there is none",
    ),
    Key("mesh.data", 0, Whole(0, _ROWS), "devices that split a batch; 0: as many as there are for the other axes"),
    Key("mesh.fsdp", 1, Whole(1, _ROWS), "devices that split a batch and the parameters"),
    Key("mesh.tensor", 1, Whole(1, _ROWS), "devices that split heads and MLPs"),
    Key(
        "mesh.rules",
        (),
        Many(_SPLIT, "rules", "(('text/token_embedding', (None, 'tensor')),)"),
        "how parameters are split, before the rules of lrsclip_jax/sharding.py",
    ),
    Key("eval.sources", (), Many(_SET, "sets", "('DIR:test',)"), "held-out sets"),
    Key("eval.every_steps", 0, Whole(), "steps between evaluations; 0: at the end only"),
    Key("eval.batch_size", 256, Whole(1, _ROWS), "rows that are embedded at once over all devices"),
    Key(
        "eval.templates",
        (),
        Many(_TEMPLATE, "templates", "('lrsclip',)"),
        "texts of the classes, by which sets with labels are classified zero-shot",
    ),
    Key(
        "eval.truncations",
        (),
        Many(_TOKEN_COUNT, "numbers of tokens", "(20,)"),
        "lengths in tokens to which long texts are cut, to be scored once more",
    ),
    Key(
        "eval.at_start",
        None,
        OrNone(Flag()),
        "whether to evaluate before the first step; None: if model.init, image_init or text_init bring weights",
    ),
    Key(
        "eval.guard",
        None,
        OrNone(Many(_WATCHED, "pairs of a score and a margin", "(('eval/SET/zeroshot/accuracy', 2.0),)")),
        "scores that are not to fall below those before the first step; a warning comes where one does, by more than "
        "its margin in per cent; None: each set's mean recall and zero-shot accuracy, by more than 1; (): none",
    ),
    Key("checkpoint.every_steps", 1000, _STEPS, "steps between checkpoints"),
    Key("checkpoint.every_minutes", 20.0, Number(0.0, _MINUTES), "most minutes between checkpoints"),
    Key("checkpoint.keep", 2, Whole(1, _ROWS), "newest checkpoints that stay"),
    Key(
        "checkpoint.keep_every_minutes",
        None,
        OrNone(Number(0.0, _MINUTES, above=True)),
        "one checkpoint of each period of this length stays, too; None: none",
    ),
    Key(
        "checkpoint.best",
        None,
        OrNone(Text("a text such as 'eval/SET/long/mean_recall'")),
        "the best checkpoints by this metric of metrics.jsonl stay, too",
    ),
    Key("checkpoint.keep_best", 1, Whole(1, _ROWS), "best checkpoints that stay"),
    Key("log.every_steps", 10, _STEPS, "steps between rows of metrics.jsonl"),
    Key("log.tensorboard", True, Flag(), "whether TensorBoard's files are written as well"),
    Key(
        "log.profile",
        None,
        OrNone(Span(_STEPS, "the first and the last step", "(20, 24)")),
        "steps that JAX's profiler traces into the run's folder",
    ),
    Key(
        "log.to",
        (),
        Many(choice("tensorboard", "wandb", "mlflow", "trackio"), "trackers", "('wandb',)"),
        "trackers that get the metrics as well, each an optional package; log.tensorboard adds the first",
    ),
)
KEYS: dict[str, Key] = {key.name: key for key in _TABLE}

_COMPUTED = (
    Key("layers", 12, Whole(1, _DEPTH), "blocks of the tower"),
    Key("mlp_width", None, OrNone(Whole(1, 4 * _WIDTH)), "hidden units of a block's MLP; None: four times the width"),
    Key("remat", "dense", _REMAT, "what the blocks store for the backward pass"),
    Key("attention", "auto", choice("auto", "xla", "cudnn", "splash"), "which implementation computes attention"),
    Key("unroll", 1, Whole(1, _DEPTH), "blocks in one round of their loop"),
    Key(
        "products", "float", choice("float", "int8"), "arithmetic of dense layers: the tower's dtype, or 8-bit integers"
    ),
    Key("dtype", "float32", choice(*_DTYPES), "of this tower's arithmetic, in place of model.dtype"),
)
_ACTIVATIONS = choice("quick_gelu", "gelu")
_EPS = Number(1e-12, 1.0)


def _shape(width: int, heads: int) -> tuple[Key, ...]:
    return (
        Key("width", width, Whole(1, _WIDTH), "width of a token; a multiple of heads"),
        Key("heads", heads, Whole(1, _WIDTH), "heads of attention"),
        Key("embed_dim", 512, Whole(1, _WIDTH), "width of the embedding, the same for both towers"),
    )


def _texts(vocab_size: int, context_length: int) -> tuple[Key, ...]:
    return (
        Key("vocab_size", vocab_size, Whole(1, _ROWS), "rows of the token table"),
        Key("context_length", context_length, _TOKEN_COUNT, "rows of the position table"),
        Key("frozen_positions", 0, Whole(0, _TOKENS), "first rows of the position table that are not trained"),
        Key("keep", 20, Whole(0, _TOKENS), _KEEP),
        Key("ratio", None, _RATIOS, _RATIO),
    )


def _fields(*keys: Key) -> dict[str, Key]:
    return {key.name: key for key in keys}


# Fields of the towers' classes with their defaults; an entry of the zoo and the config go before these.
IMAGE_FIELDS = _fields(
    Key("size", 224, Whole(1, _SIDE), "side of the images in pixels; a multiple of patch"),
    Key("patch", 32, Whole(1, _SIDE), "side of a patch in pixels"),
    *_shape(768, 12),
    *_COMPUTED,
    Key("patch_bias", False, Flag(), "whether the patch embedding has a bias"),
    Key("pre_norm", True, Flag(), "whether a norm precedes the blocks"),
    Key("norm_eps", 1e-5, _EPS, "epsilon of the norms"),
    Key("activation", "quick_gelu", _ACTIVATIONS, "activation of the MLPs"),
    Key("pool", "cls", choice("cls", "mean"), "an image's token: the class token, or the mean of the patches"),
    Key("token_multiple", 1, Whole(1, 1024), "tokens are padded to a multiple of it"),
    Key("patch_dropout", 0.0, Number(0.0, 1.0, below=True), "share of the patches that training leaves out"),
)
TEXT_FIELDS = {
    "transformer": _fields(
        *_texts(49408, 77),
        *_shape(512, 8),
        *_COMPUTED,
        Key("norm_eps", 1e-5, _EPS, "epsilon of the norms"),
        Key("activation", "quick_gelu", _ACTIVATIONS, "activation of the MLPs"),
        Key("end_token", 49407, Whole(0, _ROWS), "the id that ends a text, where it is pooled"),
    ),
    "bert": _fields(
        *_texts(30522, 248),
        *_shape(768, 12),
        *_COMPUTED,
        Key("norm_eps", 1e-12, _EPS, "epsilon of the norms"),
        Key("activation", "gelu", _ACTIVATIONS, "activation of the MLPs"),
        Key("pool", "pooler", choice("pooler", "cls"), "a text's token: through BERT's pooler, or itself"),
        Key("positions", "native", choice("native", "stretched"), "which rows pretrained weights bring"),
        Key("pad_token", 0, Whole(0, _ROWS), "the id that follows a text"),
    ),
}
KIND = Key("kind", "transformer", choice(*TEXT_FIELDS), "class of the text tower: CLIP's, or BERT")


def tower_keys(kind: str | None = None) -> dict[str, Key]:
    """Returns the fields of both towers by their full keys; without `kind` those of all text towers."""
    texts = [TEXT_FIELDS[kind]] if kind else [*reversed(TEXT_FIELDS.values())]
    text = {name: key for fields in texts for name, key in fields.items()} | {"kind": KIND}
    towers = {"model.image": IMAGE_FIELDS, "model.text": text}
    return {f"{tower}.{name}": key for tower, fields in towers.items() for name, key in fields.items()}


def describe_keys() -> list[str]:
    """Returns lines that describe every key: its name and default, the values that it may have, its meaning."""
    return [line for key in _described() for line in (key[0], f"    {key[1]}", f"    {key[2]}")]


def _described() -> Iterator[tuple[str, str, str]]:
    for key in KEYS.values():
        yield f"{key.name} = {shown(key.default)}", key.meaning, key.values.words
    for name, key in tower_keys().items():
        if name not in KEYS:
            yield f"{name} (as model.name has it)", key.meaning, key.values.words
