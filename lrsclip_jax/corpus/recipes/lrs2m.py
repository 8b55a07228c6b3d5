"""LRS2M: source, way and generator of every row of Table I (arXiv 2503.19311).

    lrsclip corpus build lrs2m:ROOT --out=corpora/lrs2m

ROOT holds the published sets, as they are unpacked:

    vhm/list_pretrain.json, vhm/images/…     long captions of VHM and their images (opendatalab/VHM)
    rs5m/*.csv, rs5m/images/…                short captions of RS5M (om-ai-lab/RS5M)
    remoteclip/det-10.csv, seg-4.csv, …      short captions of RemoteCLIP's Det-10 and Seg-4, and their images
    ucmerced/dataset.json, ucmerced/imgs/…   UCM-captions in Karpathy's form
    openlandmap/annotations.json, …          vector labels as COCO's JSON; the paper's own set was never published

The paper names the models, but neither their sizes nor the other settings below. Each model has an address of its own:
an OpenAI-compatible server such as `vllm serve Qwen/Qwen2-VL-7B-Instruct --port=8001`.

The paper has no filters: only images that can't be read are left out here, so that counts can be those of Table I.
`--config.duplicates=perceptual --config.texts.short=3,77 --config.texts.long=20,248` and the like switch filters on.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from lrsclip_jax.corpus.recipe_config import defaults, source, subset


def get_config(root: str) -> ConfigDict:
    """Returns the recipe over the sets below `root`."""
    config = defaults()
    config.generators = ConfigDict(
        {
            "qwen2-5": {"base_url": "http://localhost:8000/v1", "model": "Qwen/Qwen2.5-7B-Instruct"},
            "qwen2-vl": {"base_url": "http://localhost:8001/v1", "model": "Qwen/Qwen2-VL-7B-Instruct"},
            "internlm2-5": {"base_url": "http://localhost:8002/v1", "model": "internlm/internlm2_5-7b-chat"},
            "glm-4": {"base_url": "http://localhost:8003/v1", "model": "THUDM/glm-4-9b-chat"},
            "llava-onevision": {
                "base_url": "http://localhost:8004/v1",
                "model": "lmms-lab/llava-onevision-qwen2-7b-ov",
            },
        }
    )

    def vhm(dataset: str) -> dict:
        return source("vhm", f"{root}/vhm/list_pretrain.json", image_root=f"{root}/vhm/images", only=dataset)

    def rs5m(name: str) -> dict:
        return source("rs5m", f"{root}/rs5m/{name}.csv", image_root=f"{root}/rs5m/images/{name}")

    def remoteclip(name: str) -> dict:
        return source("remoteclip", f"{root}/remoteclip/{name}.csv", image_root=f"{root}/remoteclip")

    ucmerced = source("captions", f"{root}/ucmerced/dataset.json", image_root=f"{root}/ucmerced/imgs")
    openlandmap = source("coco", f"{root}/openlandmap/annotations.json", image_root=f"{root}/openlandmap/images")
    config.subsets = (
        # First way: both texts are published, of the same images.
        subset("MillionAID", "merge", vhm("MillionAID"), others=[rs5m("millionaid")], key="stem"),
        # Second: long texts are summarised.
        subset("CrowdAI", "summarise", vhm("CrowdAI"), short="qwen2-5"),
        subset("CVACT", "summarise", vhm("CVACT"), short="internlm2-5"),
        subset("CVUSA", "summarise", vhm("CVUSA"), short="internlm2-5"),
        subset("fMoW", "summarise", vhm("fMoW"), short="internlm2-5"),
        subset("LoveDA", "summarise", vhm("LoveDA"), short="glm-4"),
        # Third: short texts and the image become long ones.
        subset("BigEarthNet", "expand", rs5m("bigearthnet"), long="qwen2-vl"),
        subset("Det-10", "expand", remoteclip("det-10"), long="qwen2-vl"),
        subset("Seg-4", "expand", remoteclip("seg-4"), long="llava-onevision"),
        subset("UCMerced", "expand", ucmerced, long="llava-onevision"),
        # Fourth: labels and the image become long texts, and those short ones. §III also names LLaVA-OneVision.
        subset("OpenLandMap", "anchor", openlandmap, long="qwen2-vl", short="qwen2-5"),
    )
    config.allow_unknown_licences = True  # most of these sets state none
    config.images = ConfigDict({"min_side": 1, "uniform": None})
    config.duplicates = config.texts.short = config.texts.long = None
    return config
