"""Every key of a training config: its default, the values that it may have, and its meaning, in one table.

`lrsclip_jax.config.defaults()` is made of KEYS. The groups `model.image` and `model.text` take any field of the tower's
class, too (`tower_keys`).
"""

from __future__ import annotations

from collections.abc import Iterator

from lrsclip_jax.config.allowed import (
    ADAPTED,
    BANDS,
    BANDS_READ,
    COMPONENTS,
    DTYPES,
    EMBEDDINGS_OF_SOURCES,
    FRACTION,
    KEEP,
    LONG_WEIGHT,
    MIN_PATCHES,
    MINUTES,
    PATTERNS,
    RATE,
    RATIO,
    RATIOS,
    REMAT,
    RESOLUTION,
    RESOLUTION_READ,
    ROWS,
    RULES,
    SET,
    SIDE,
    SPLIT,
    STEPS,
    TEMPLATE,
    TOKEN_COUNT,
    TOKENS,
    TURNS,
    WATCHED,
    WEIGHTED_SET,
    WEIGHTS,
    WIDTH,
)
from lrsclip_jax.config.draw_keys import draw_keys
from lrsclip_jax.config.tower_keys import tower_keys
from lrsclip_jax.config.values import Flag, Key, Many, Number, OrNone, Pattern, Span, Text, Whole, choice, either, shown
from lrsclip_jax.models.zoo_table import MODELS

_TABLE = (
    Key("seed", 0, Whole(0, 2**32 - 1), "of everything that is drawn: parameters, order of the records, crops, texts"),
    Key("batch_size", 256, Whole(1, ROWS), "pairs of a step over all devices; the loss is a function of this batch"),
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
        OrNone(WEIGHTS),
        "a source of weights, or 'random'; to be given, unless both towers have one",
    ),
    Key("model.image_init", None, OrNone(WEIGHTS), "a source for the image tower alone"),
    Key("model.text_init", None, OrNone(WEIGHTS), "a source for the text tower alone"),
    Key("model.dtype", "auto", choice("auto", *DTYPES), "of the towers' arithmetic; auto: bfloat16, on a CPU float32"),
    Key("model.image.size", 224, Whole(1, SIDE), "side of the images in pixels"),
    Key("model.image.remat", "dense", REMAT, "what the image tower's blocks store for the backward pass"),
    Key("model.image.bands", (), BANDS, BANDS_READ),
    Key("model.image.resolution", "fixed", RESOLUTION, RESOLUTION_READ),
    Key("model.image.min_patches", None, OrNone(Whole(1, ROWS)), MIN_PATCHES),
    Key("model.text.context_length", 248, TOKEN_COUNT, "rows of the text tower's position table: its longest text"),
    Key("model.text.frozen_positions", 0, Whole(0, TOKENS), "first rows of that table that are not trained"),
    Key("model.text.remat", "dense", REMAT, "what the text tower's blocks store for the backward pass"),
    Key("model.text.keep", 20, Whole(0, TOKENS), KEEP),
    Key("model.text.ratio", None, RATIOS, RATIO),
    Key(
        "model.adapt",
        (),
        Many(ADAPTED, "rules", "(('image/blocks/attention/.*', 'lora', 8), ('.*/mlp', 'adapter', 16))"),
        "adapters by place in the towers; they and model.adapt_with train, are saved, and the rest stays as it is",
    ),
    Key(
        "model.adapt_with",
        ("(image|text)/projection/.*", "logit_.*"),
        Many(Pattern(rows=False), "patterns", "('(image|text)/projection/.*', 'logit_.*')"),
        "parameters of the model itself that train with the adapters of model.adapt",
    ),
    Key(
        "model.new_bands",
        "zero",
        choice("zero", "mean"),
        "how the patch embedding of bands starts that the weights do not know: at zero, or as the mean of those that "
        "they do",
    ),
    Key(
        "model.band_scale",
        10000.0,
        Number(0.0, 1e9, above=True),
        "of model.image.bands: the value of a reflectance of 1, which values are divided by first; 255.0 for 8 bits",
    ),
    Key(
        "model.band_mean",
        None,
        OrNone(Many(Number(-1e9, 1e9), "numbers, one for each band", "(0.11, 0.12, 0.13, 0.25)")),
        "mean of each band after that, which is taken off; None: that of the weights where they have the same bands, "
        "else of the sets that are trained on",
    ),
    Key(
        "model.band_std",
        None,
        OrNone(Many(Number(0.0, 1e9, above=True), "numbers, one for each band", "(0.05, 0.05, 0.06, 0.1)")),
        "standard deviation of each band, which values are divided by last; None: as of model.band_mean",
    ),
    Key(
        "data.sources",
        (),
        Many(either(SET, WEIGHTED_SET), "sets", "('DIR', ('DIR2:SPLIT', 2.0))"),
        "what is trained on, some sets with a weight",
    ),
    Key(
        "data.sampling",
        "draw",
        choice("draw", "pairs"),
        "draw: a record with one long and one short text, drawn each epoch; pairs (RSCLIP): a record with one of its "
        "texts, all of them each epoch, as a long text (loss.long_weight must be 1)",
    ),
    Key("data.long_length", 248, TOKEN_COUNT, "tokens at which long texts are cut; their length in a batch"),
    Key("data.short_length", 77, TOKEN_COUNT, "tokens at which short texts are cut; their length in a batch"),
    Key("data.packed", False, Flag(), "whether the texts of a batch share rows, without padding"),
    Key("data.row_length", 256, TOKEN_COUNT, "tokens of such a row"),
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
    *draw_keys("data.long_draw", "long texts", "the others stay whole"),
    *draw_keys(
        "data.short_draw", "short texts, where data.short_text='sentences'", "the others are short texts of the data"
    ),
    Key(
        "data.augmentation.turns",
        "none",
        either(TURNS, Many(TURNS, "choices, one for each of data.sources", "('all', 'none')")),
        "images turned with the words of their texts: mirrored (flips), by quarters (turns), or both (all)",
    ),
    Key(
        "data.image_features",
        None,
        EMBEDDINGS_OF_SOURCES,
        "what the frozen image tower gave for the images (lrsclip embed --features=encoder), in place of computing it; "
        "None: it is computed",
    ),
    Key(
        "data.text_features",
        None,
        EMBEDDINGS_OF_SOURCES,
        "what the frozen text tower gave for the texts (lrsclip embed --features=encoder --tower=text); None: as above",
    ),
    Key("loss.long_weight", 0.8, LONG_WEIGHT, "weight of the long text (omega of Eq. 5), the rest is the short text's"),
    Key("loss.label_smoothing", 0.0, FRACTION, "share of the target that is spread over the negatives"),
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
        Whole(0, WIDTH),
        "principal components to which the short term reduces images (Long-CLIP: 32); 0: it does not",
    ),
    Key(
        "loss.pcm_scope",
        "global",
        COMPONENTS,
        "pairs whose components these are: all of a batch, or every N in a row (Long-CLIP: those of a GPU)",
    ),
    Key(
        "loss.gradient",
        "full",
        choice("full", "reference"),
        "reference: that of LRSCLIP's code, which gathers features without their gradient",
    ),
    Key("loss.form", "gather", choice("gather", "ring", "full"), "how the loss is computed; its value is the same"),
    Key("loss.chunk", 1024, Whole(0, ROWS), "rows of logits that a device holds at a time; 0: all"),
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
        OrNone(either(Number(0.0, 1.0, above=True, below=True), Whole(1, WIDTH))),
        "a further term, of images with the principal part of a batch's long texts (HiMo-CLIP: 0.85 to 0.9): the share "
        "of the variance that it holds, or how many components; None: no such term",
    ),
    Key("loss.text_pca_weight", 1.0, Number(0.0, 1e6, above=True), "weight of that term, next to both others"),
    Key(
        "loss.rising",
        0.0,
        Number(0.0, 1e6),
        "weight of a further term that has the long text of an image score above its short one, where it has more "
        "tokens; 0: no such term",
    ),
    Key(
        "loss.hard_negatives",
        0.0,
        Number(0.0, 1e6),
        "weight of a further term that has the short text of an image score above its hard negative, the same text "
        "with a count, a colour or a side changed, where a set holds one (after NegCLIP); 0: no such term",
    ),
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
        OrNone(WEIGHTS),
        "weights of the teacher, of the same model; None: those that the run starts from",
    ),
    Key(
        "loss.patches",
        0.0,
        Number(0.0, 1e6),
        "weight of a further term that has the patches of a region be what they are in a crop of it (FarSLIP: 0.1); 0: "
        "no such term",
    ),
    Key(
        "optimizer.name",
        "sgd",
        choice("sgd", "adamw", "muon", "lion", "schedule_free"),
        "the optimizer: the first two as in PyTorch; muon: the blocks' matrices by Muon, the rest by AdamW; "
        "schedule_free: AdamW whose parameters are an average over the run",
    ),
    Key("optimizer.learning_rate", 3e-4, Number(0.0, RATE), "of each update, at its peak after the warm-up"),
    Key("optimizer.momentum", 0.9, FRACTION, "of sgd's momentum buffer: the share that stays; muon's, usually 0.95"),
    Key("optimizer.dampening", 0.1, FRACTION, "of sgd: share of a gradient that its momentum buffer leaves out"),
    Key(
        "optimizer.b1",
        0.9,
        Number(0.0, 1.0, below=True),
        "of all but sgd: decay of the first moment; schedule_free's average",
    ),
    Key("optimizer.b2", 0.98, Number(0.0, 1.0, below=True), "of all but sgd: decay of the second moment"),
    Key("optimizer.eps", 1e-6, Number(1e-30, 1.0), "of all but sgd and lion: added to the root of the second moment"),
    Key("optimizer.weight_decay", 0.0, Number(0.0, RATE), "factor of the parameters that each update takes off"),
    Key(
        "optimizer.schedule",
        "constant",
        choice("constant", "cosine", "wsd"),
        "cosine: down to final_learning_rate; wsd: constant, then down to it along a line (warm-up–stable–decay)",
    ),
    Key("optimizer.final_learning_rate", 0.0, Number(0.0, RATE), "where a cosine or wsd ends"),
    Key("optimizer.warmup_steps", 0, Whole(), "steps of a linear warm-up"),
    Key("optimizer.warmup_epochs", 0.0, Number(0.0, 1e6), "epochs of a linear warm-up, in place of steps"),
    Key("optimizer.clip_norm", None, OrNone(Number(0.0, RATE, above=True)), "limit of the gradients' norm; None: none"),
    Key("optimizer.lr_rules", (), RULES, "factors of the learning rate by parameter path; the first match holds"),
    Key("optimizer.decay_rules", (), RULES, "factors of the weight decay by parameter path; the first match holds"),
    Key("optimizer.freeze", (), PATTERNS, "parameters that are not trained"),
    Key("optimizer.cooldown", 0.2, Number(0.0, 1.0, above=True), "of wsd: the share of the run in which it falls"),
    Key(
        "train.microbatches",
        1,
        Whole(1, ROWS),
        "parts of a batch that pass the towers one after the other; the gradient is the same",
    ),
    Key(
        "train.offload",
        "none",
        choice("none", "images", "optimizer", "all"),
        "what waits in host memory: images of a batch, which travel by microbatch, the optimizer's state, or all of it",
    ),
    Key("train.max_skipped", 0, Whole(0, 2**31 - 2), "updates that may be skipped for a loss or gradient not finite"),
    Key(
        "train.watchdog_minutes",
        60.0,
        OrNone(Number(0.0, MINUTES)),
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
    Key("mesh.data", 0, Whole(0, ROWS), "devices that split a batch; 0: as many as there are for the other axes"),
    Key("mesh.fsdp", 1, Whole(1, ROWS), "devices that split a batch and the parameters"),
    Key("mesh.tensor", 1, Whole(1, ROWS), "devices that split heads and MLPs"),
    Key(
        "mesh.rules",
        (),
        Many(SPLIT, "rules", "(('text/token_embedding', (None, 'tensor')),)"),
        "how parameters are split, before the rules of lrsclip_jax/sharding.py",
    ),
    Key("eval.sources", (), Many(SET, "sets", "('DIR:test',)"), "held-out sets"),
    Key("eval.every_steps", 0, Whole(), "steps between evaluations; 0: at the end only"),
    Key("eval.batch_size", 256, Whole(1, ROWS), "rows that are embedded at once over all devices"),
    Key(
        "eval.templates",
        (),
        Many(TEMPLATE, "templates", "('lrsclip',)"),
        "texts of the classes, by which sets with labels are classified zero-shot",
    ),
    Key(
        "eval.truncations",
        (),
        Many(TOKEN_COUNT, "numbers of tokens", "(20,)"),
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
        OrNone(Many(WATCHED, "pairs of a score and a margin", "(('eval/SET/zeroshot/accuracy', 2.0),)")),
        "scores that are not to fall below those before the first step; a warning comes where one does, by more than "
        "its margin in per cent; None: each set's mean recall and zero-shot accuracy, by more than 1; (): none",
    ),
    Key("checkpoint.every_steps", 1000, STEPS, "steps between checkpoints"),
    Key("checkpoint.every_minutes", 20.0, Number(0.0, MINUTES), "most minutes between checkpoints"),
    Key("checkpoint.keep", 2, Whole(1, ROWS), "newest checkpoints that stay"),
    Key(
        "checkpoint.keep_every_minutes",
        None,
        OrNone(Number(0.0, MINUTES, above=True)),
        "one checkpoint of each period of this length stays, too; None: none",
    ),
    Key(
        "checkpoint.best",
        None,
        OrNone(Text("a text such as 'eval/SET/long/mean_recall'")),
        "the best checkpoints by this metric of metrics.jsonl stay, too",
    ),
    Key("checkpoint.keep_best", 1, Whole(1, ROWS), "best checkpoints that stay"),
    Key("log.every_steps", 10, STEPS, "steps between rows of metrics.jsonl"),
    Key("log.tensorboard", True, Flag(), "whether TensorBoard's files are written as well"),
    Key(
        "log.profile",
        None,
        OrNone(Span(STEPS, "the first and the last step", "(20, 24)")),
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


def describe_keys() -> list[str]:
    """Returns lines that describe every key: its name and default, the values that it may have, its meaning."""
    return [line for key in _described() for line in (key[0], f"    {key[1]}", f"    {key[2]}")]


def _described() -> Iterator[tuple[str, str, str]]:
    for key in KEYS.values():
        yield f"{key.name} = {shown(key.default)}", key.meaning, key.values.words
    for name, key in tower_keys().items():
        if name not in KEYS:
            yield f"{name} (as model.name has it)", key.meaning, key.values.words
