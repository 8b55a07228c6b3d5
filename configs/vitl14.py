"""LRSCLIP ViT-L/14, the larger of the two released models; the recipe of vitb16.py (arXiv 2503.19311).

    lrsclip train --config=vitl14 --workdir=runs/l14 \
        --config.model.init=CLIP_WEIGHTS --config.data.sources=PREPARED_LRS2M
"""

from lrsclip_jax.config import recipe


def get_config():
    config = recipe("vitb16")
    config.model.name = "vitl14"
    return config
