"""The values that several keys of a config, or entries of them, may have."""

from __future__ import annotations

from lrsclip_jax.config.values import (
    Breakpoints,
    Many,
    Matching,
    Named,
    Number,
    OrNone,
    Pattern,
    Row,
    Text,
    Whole,
    choice,
    either,
)

# Bounds of what can be asked for: far beyond any use, and far below what memory or a number's type would refuse.
ROWS = 2**24
TOKENS = 2**16
WIDTH = 2**16
DEPTH = 1024
SIDE = 2**14
MINUTES = 366 * 24 * 60.0
RATE = 1e38  # float32 ends at 3.4e38
DTYPES = ("float32", "bfloat16", "float16")

TOKEN_COUNT = Whole(2, TOKENS)  # a text has a start and an end token at least
TURNS = choice("none", "flips", "turns", "all")
SENTENCES = Whole(1, TOKENS)
STEPS = Whole(1)
FRACTION = Number(0.0, 1.0)
SET = Text("a set such as 'DIR', 'DIR:SPLIT' or 'scenes:COUNT:SEED'")
WEIGHTED_SET = Row((SET, Number(1e-9, 1e9)), "a pair of a set and its weight, such as ('DIR', 2.0)")
EMBEDDINGS = Text("a folder such as 'sets/aid_images'")
EMBEDDINGS_OF_SOURCES = OrNone(either(EMBEDDINGS, Many(EMBEDDINGS, "folders", "('sets/a', 'sets/b')")))
WEIGHTS = Text("a text such as 'runs/b16' or 'hf:owner/name'")
RULE = Row(
    (Pattern(), Number(0.0, RATE), Matching(r"layer_decay=([0-9]{0,18}\.)?[0-9]{1,18}", "'layer_decay=NUMBER'")),
    "(pattern, factor) or (pattern, factor, 'layer_decay=0.75')",
    optional=1,
)
RULES = Many(RULE, "rules", "(('image/.*', 0.1),)")
PATTERNS = Many(Pattern(), "patterns", "('logit_scale', 'image/blocks/.*[0:6]')")
PLACES, RANK = Pattern(rows=False), Whole(1, WIDTH)
ADAPTED = Named(
    {
        "lora": Row(
            (PLACES, choice("lora"), RANK, Number(0.0, RATE, above=True), Number(0.0, 1.0, below=True)),
            "(pattern, 'lora', rank), and further alpha (the rank) and dropout (0.0)",
            optional=2,
        ),
        "adapter": Row(
            (PLACES, choice("adapter"), RANK), "(pattern, 'adapter'), and further reduction (16)", optional=1
        ),
        "prefix": Row((PLACES, choice("prefix"), RANK), "(pattern, 'prefix'), and further length (30)", optional=1),
        "unipelt": Row(
            (PLACES, choice("unipelt"), RANK, RANK, RANK),
            "(pattern, 'unipelt'), and further length (10), reduction (16) and rank (8)",
            optional=3,
        ),
    }
)
AXIS = OrNone(choice("data", "fsdp", "tensor"))
SPLIT = Row(
    (Pattern(rows=False), Many(AXIS, "axes", "('fsdp', None)")),
    "(pattern, axis of each dimension), such as ('text/.*/kernel', (None, 'fsdp'))",
)
WATCHED = Row(
    (Text("a score such as 'eval/SET/long/mean_recall'"), Number(0.0, 100.0)),
    "a pair of a score and its margin, such as ('eval/SET/long/mean_recall', 1.0)",
)
TEMPLATES = ("lrsclip", "rsclip", "rsclip-the", "itra", "georsclip", "skyscript")
TEMPLATE = either(choice(*TEMPLATES), Matching(r"[^{}]*\{\}[^{}]*", "a template with {} once, for the class"))
STORED = "(qkv|attention|mlp_hidden)"
REMAT = either(
    choice("none", "dense", "full"), Matching(f"names:{STORED}(,{STORED})*", "'names:qkv,attention,mlp_hidden'")
)
COMPONENTS = either(choice("global"), Matching("group:[1-9][0-9]{0,8}", "'group:N' with N pairs"))
LONG_WEIGHT = either(
    FRACTION,
    Breakpoints(
        Whole(), FRACTION, "pairs (step, number from 0 to 1) with rising steps, such as ((0, 0.2), (1000, 0.8))"
    ),
    Breakpoints(
        FRACTION,
        FRACTION,
        "pairs (share of the run with a decimal point, number from 0 to 1), such as ((0.0, 0.2), (0.5, 0.8))",
    ),
)

BANDS = Many(Text("a name such as 'B04', 'red' or '665nm'"), "bands", "('B04', 'B03', 'B02', 'B08')")
BANDS_READ = "the bands that images have, by name or wavelength and in order; (): red, green and blue of 8 bits"

RESOLUTION = choice("fixed", "native")
RESOLUTION_READ = (
    "fixed: images become squares of model.image.size; native: they keep their shape, get at most as many patches as "
    "such a square, and share rows (NaFlex, NaViT)"
)
MIN_PATCHES = (
    "of resolution='native': to how many patches a small image is enlarged; 1: none is; None: to all that it may get"
)

# How a pretrained table of text positions is made longer; the towers' fields and the config's keys say the same.
KEEP = "first rows of a shorter pretrained position table that stretching (KPS) leaves as they are; 0: none"
RATIO = "rows that stretching makes of each later row; None: the fewest that reach context_length"
RATIOS = OrNone(Whole(1, TOKENS))
