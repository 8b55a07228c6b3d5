"""Published models whose weights come without a config: what their tensors do not show, and how that is known."""

from __future__ import annotations

from typing import NamedTuple

from lrsclip_jax.errors import InputError, nearest


class Architecture(NamedTuple):
    """The widths and patch size, and of a ResNet the bottlenecks, by which tensors show one of CLIP's architectures."""

    image_width: int
    patch: int
    text_width: int
    stages: tuple[int, ...] = ()


class Published(NamedTuple):
    """A published model: its architecture, the activation of both towers, and why that one."""

    architecture: str
    activation: str
    why: str


ARCHITECTURES = {
    "ViT-B-32": Architecture(768, 32, 512),
    "ViT-B-16": Architecture(768, 16, 512),
    "ViT-L-14": Architecture(1024, 14, 768),
    "ViT-H-14": Architecture(1280, 14, 1024),
    "ViT-g-14": Architecture(1408, 14, 1024),
    "ViT-bigG-14": Architecture(1664, 14, 1280),
    "RN50": Architecture(64, 32, 512, (3, 4, 6, 3)),
    "RN101": Architecture(64, 32, 512, (3, 4, 23, 3)),
    "RN50x4": Architecture(80, 32, 640, (4, 6, 10, 6)),
    "RN50x16": Architecture(96, 32, 768, (6, 8, 18, 8)),
    "RN50x64": Architecture(128, 32, 1024, (3, 15, 36, 10)),
}

_OWN = "its own code has QuickGELU"
_TUNED = "tuned from OpenAI's weights"
_TUNED_TOO = "taken to be tuned from OpenAI's weights, as the same authors' B/32 is"
_LAION = "tuned from laion2b's weights"
_TABLE = "open_clip's table of pretrained models says so"

PUBLISHED = {
    "OpenAI-ViT-B-32": Published("ViT-B-32", "quick_gelu", _OWN),
    "OpenAI-ViT-B-16": Published("ViT-B-16", "quick_gelu", _OWN),
    "OpenAI-ViT-L-14": Published("ViT-L-14", "quick_gelu", _OWN),
    "OpenAI-RN50": Published("RN50", "quick_gelu", _OWN),
    "OpenAI-RN101": Published("RN101", "quick_gelu", _OWN),
    "OpenAI-RN50x4": Published("RN50x4", "quick_gelu", _OWN),
    "OpenAI-RN50x16": Published("RN50x16", "quick_gelu", _OWN),
    "OpenAI-RN50x64": Published("RN50x64", "quick_gelu", _OWN),
    "LongCLIP-ViT-B-16": Published("ViT-B-16", "quick_gelu", _OWN),
    "LongCLIP-ViT-L-14": Published("ViT-L-14", "quick_gelu", _OWN),
    "LRSCLIP-ViT-B-16": Published("ViT-B-16", "quick_gelu", _OWN),
    "LRSCLIP-ViT-L-14": Published("ViT-L-14", "quick_gelu", _OWN),
    "DGTRS-CLIP-ViT-B-16": Published("ViT-B-16", "quick_gelu", _OWN),  # LRSCLIP's later name
    "DGTRS-CLIP-ViT-L-14": Published("ViT-L-14", "quick_gelu", _OWN),
    "RemoteCLIP-RN50": Published("RN50", "quick_gelu", _TUNED),
    "RemoteCLIP-ViT-B-32": Published("ViT-B-32", "quick_gelu", _TUNED),
    "RemoteCLIP-ViT-L-14": Published("ViT-L-14", "quick_gelu", _TUNED),
    "GeoRSCLIP-ViT-B-32": Published("ViT-B-32", "quick_gelu", _TUNED),
    "GeoRSCLIP-ViT-L-14": Published("ViT-L-14", "quick_gelu", _TUNED_TOO),
    "GeoRSCLIP-ViT-H-14": Published("ViT-H-14", "gelu", _LAION),
    "SkyCLIP-ViT-B-32": Published("ViT-B-32", "gelu", _LAION),
    "SkyCLIP-ViT-L-14": Published("ViT-L-14", "quick_gelu", _TUNED),
    "LAION-RS-ViT-L-14": Published("ViT-L-14", "quick_gelu", _TUNED),  # SkyScript's baseline
    "laion400m-ViT-B-32": Published("ViT-B-32", "quick_gelu", _TABLE),
    "laion400m-ViT-B-16": Published("ViT-B-16", "gelu", _TABLE),
    "laion400m-ViT-L-14": Published("ViT-L-14", "gelu", _TABLE),
    "laion2b-ViT-B-32": Published("ViT-B-32", "gelu", _TABLE),
    "laion2b-ViT-B-16": Published("ViT-B-16", "gelu", _TABLE),
    "laion2b-ViT-L-14": Published("ViT-L-14", "gelu", _TABLE),
    "laion2b-ViT-H-14": Published("ViT-H-14", "gelu", _TABLE),
    "laion2b-ViT-g-14": Published("ViT-g-14", "gelu", _TABLE),
    "laion2b-ViT-bigG-14": Published("ViT-bigG-14", "gelu", _TABLE),
}

# All configs of open_clip 3.3.0 (model_configs/*.json) whose towers are its own: those of one width agree on the width
# of a head. The last four of images are those of a ResNet's features. The text width 1152 is left out, which SigLIP
# alone has.
_HEAD_WIDTHS = {
    "image": dict.fromkeys((384, 512, 768, 896, 1024, 2048, 2560, 3072, 4096), 64)
    | {1280: 80, 1408: 88, 1664: 104, 1792: 112},
    "text": dict.fromkeys((256, 384, 512, 640, 768, 1024, 1280), 64),
}


def heads(tower: str, width: int) -> int | None:
    """Returns the number of heads that open_clip's "image" or "text" towers of a width have; None: it has no such."""
    head = _HEAD_WIDTHS[tower].get(width)
    return head and width // head


def model(name: str) -> Published:
    """Returns the published model of a name; InputError for one that is not in the table."""
    if name not in PUBLISHED:
        raise InputError(
            f"--model={name} is no published model{nearest(name, PUBLISHED)}; known: {', '.join(PUBLISHED)}"
        )
    return PUBLISHED[name]


def check_architecture(name: str, shown: Architecture, where: str) -> None:
    """Raises InputError unless the tensors of the file `where` are of the published model of a name."""
    expected = ARCHITECTURES[model(name).architecture]
    if shown != expected:
        ours, theirs = (
            ", ".join(f"{field.replace('_', ' ')} {value}" for field, value in architecture._asdict().items() if value)
            for architecture in (shown, expected)
        )
        raise InputError(f"{where} is not --model={name}: it has {ours}, that model {theirs}")


def activations(shown: Architecture) -> str:
    """Returns which published models of an architecture have which activation; of all, if none is of this one."""
    like = [name for name, known in ARCHITECTURES.items() if known == shown] or list(ARCHITECTURES)
    named: dict[str, list[str]] = {"quick_gelu": [], "gelu": []}
    for name, known in PUBLISHED.items():
        if known.architecture in like:
            named[known.activation].append(name)
    return "; ".join(f"{activation}: {', '.join(names) or 'none'}" for activation, names in named.items())
