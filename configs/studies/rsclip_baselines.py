"""RSCLIP's Tables I and II, the rows of adapters: full tuning, LoRA, Pfeiffer, prefixes, UniPELT, projections alone.

lrsclip study rsclip_baselines --workdir=studies

Three sizes: procedural scenes without an argument; `rsclip_baselines:aid:DATA` on AID with RSICD's captions, from the
run DATA/heads of configs/aid_minilm.py, with WHU-RS19's class folders in DATA/WHU-RS19; `rsclip_baselines:DATA` is the
paper's.
"""

import dataclasses

from lrsclip_jax.studies import Claim, Measured, Setting, Study, Variant, setting

METHODS = {
    "LoRA": ((".*/(query|value)", "lora", 8, 8.0),),
    "Pfeiffer": ((".*/mlp", "adapter", 16),),
    "PrefixTuning": ((".*", "prefix", 30),),
    "UniPELT": ((".*", "unipelt", 10, 16, 8),),
}
PROJECTIONS = {"optimizer.freeze": ("(image|text)/(?!projection).*",)}
# Adapters begin at zero, or close to it, and learn as fast as the projections.
ADAPTED = {"optimizer.lr_rules": ()}
START = {"data.sources": ("scenes:4000:2",)}


def get_study(data=""):
    kind, _, folder = data.partition(":")
    if kind == "aid" and folder:
        towers = {"model.image_init": f"{folder}/heads", "model.text_init": f"{folder}/heads"}
        shared = Setting(
            f"aid_minilm:rsclip:{folder}",
            towers | {"model.init": "random", "eval.at_start": True},
            (Measured(f"{folder}/aid:test", ("ZCRS",)), Measured(f"{folder}/WHU-RS19", ("ZIC",))),
        )
    elif data:
        shared = setting(data, "rsclip_baselines:lora")
        of_paper = {"model.init": f"{data}/clip_b32", "data.sources": (f"{data}/rs5m",)}
        shared = dataclasses.replace(shared, changes=shared.changes | of_paper, records=5_000_000)
    else:
        shared = setting("", miniature={"optimizer.learning_rate": 3e-4, "epochs": 2.0})
    start = None if data else START
    return Study(
        title="adapters against full tuning",
        heads={"method": "Method"},
        setting=shared,
        variants=(
            Variant({"method": "full tuning"}, {"model.adapt": ()}, start),
            *(Variant({"method": name}, ADAPTED | {"model.adapt": rules}, start) for name, rules in METHODS.items()),
            Variant({"method": "projections alone"}, PROJECTIONS | {"model.adapt": ()}, start),
        ),
        base="full tuning",
        claims=(
            Claim("UniPELT is the best adapter for retrieval", "ZCRS", "UniPELT", ("Pfeiffer", "PrefixTuning", "LoRA")),
            Claim("UniPELT is the best adapter for zero-shot", "ZIC", "UniPELT", ("Pfeiffer", "PrefixTuning", "LoRA")),
            Claim("LoRA is the best adapter for localisation", "SeLo", "LoRA", ("Pfeiffer", "PrefixTuning", "UniPELT")),
        ),
        notes=(
            "Full tuning and projections alone are no rows of the paper's tables.",
            "The paper's size takes OpenAI's ViT-B/32 from DATA/clip_b32 and RS5M, about 5 M pairs, from DATA/rs5m.",
        ),
    )
