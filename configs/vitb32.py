"""LRSCLIP with ViT-B/32, the size of the paper's ablation baselines; the recipe of vitb16.py (arXiv 2503.19311).

    lrsclip train --config=vitb32 --workdir=runs/b32 \
        --config.model.init=CLIP_WEIGHTS --config.data.sources=PREPARED_LRS2M
"""

from lrsclip_jax.config import recipe


def get_config():
    config = recipe("vitb16")
    config.model.name = "vitb32"
    return config
