"""What a set's data set is called: as the papers call it, where the source or its classes are known."""

from __future__ import annotations

from pathlib import Path

from eval.facts.identify import Identity, identify
from lrsclip_jax.embed.material import Material
from lrsclip_jax.sources.row_values import clean

_FOLDERS = 2  # around the source, that its name may stand at


def identity_of(spec: str, material: Material) -> Identity:
    """Returns the name of a source's data set, and why it has another name than the source.

    Args:
      spec: the source as the user named it.
      material: what it holds.
    """
    if material.scenes:
        kind, spec = "scenes", spec.partition(":")[2]
    else:
        kind = "captions" if any("image" in text for text in material.texts) else "classes"
    if material.split and not Path(spec).expanduser().exists():
        spec = spec.removesuffix(f":{material.split}")
    path = Path(spec).expanduser().absolute()
    around = [clean(folder.name) for folder in path.parents[:_FOLDERS]] if path.exists() else []
    labels = [image["label"] for image in material.images if "label" in image]
    return identify([material.name, *around], kind, labels)  # type: ignore[arg-type]
