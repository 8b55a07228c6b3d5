"""The README.md of an exported folder: what the model is and how it is used."""

from __future__ import annotations

from pathlib import Path

from lrsclip_jax.data.images import Preprocessing
from lrsclip_jax.models.bert_tower import Bert
from lrsclip_jax.models.clip import CLIP

_CARD = """\
---
library_name: transformers
pipeline_tag: zero-shot-image-classification
tags: [remote-sensing, clip]
# license: stated by whoever publishes this folder; it is bound by those of the weights and the data behind it
---
# {name}

A {architecture}: images and texts of up to {context_length} tokens become unit vectors of {embed_dim} numbers.

| | image tower | text tower |
|---|---|---|
| layers × width, heads | {image.layers} × {image.width}, {image.heads} | {text.layers} × {text.width}, {text.heads} |
| activation | {image.activation} | {text.activation} |
| input | {image.size}×{image.size} pixels in patches of {image.patch} | {context_length} tokens, {tokenizer} |

Images: shorter side to {size} pixels (bicubic), central square, mean {mean}, std {std}.

```python
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

model, processor = AutoModel.from_pretrained("."), AutoProcessor.from_pretrained(".", backend="pil")
texts, images = ["an aerial photo of a harbour"], [Image.open("image.jpg")]
with torch.inference_mode():
    outputs = model(**processor(text=texts, images=images, padding=True, truncation=True, return_tensors="pt"))
print(outputs.image_embeds @ outputs.text_embeds.T)  # cosines
```

Written by lrsclip_jax from {origin}; transformers 5 loads it. In float32 its
rows are those of lrsclip_jax up to 1e-5, but:

- Without `backend="pil"`, transformers resizes images with torchvision where that is installed: pixels are a level off.
{differences}"""

_CROP = """\
- Images that resize to 3, 7, 11 … pixels beyond the square are cropped one pixel off: transformers rounds half the
  margin down, CLIP to even.
"""
_CLIP_TEXTS = """\
- CLIP's tokenizer mends texts first. Curly quotes become straight here, too, but HTML entities, ligatures, full-width
  letters and broken encodings stay: mend such texts by `html.unescape(html.unescape(ftfy.fix_text(text)))`.
"""


def model_card(model: CLIP, preprocessing: Preprocessing, *, name: str, architecture: str, source: str) -> str:
    """Returns the text of a model card.

    Args:
      model: that was exported.
      preprocessing: of its images.
      name: of the folder.
      architecture: the classes of transformers.
      source: where the model came from; of a path only the end is told.
    """
    is_bert = isinstance(model.text, Bert)
    crop = _CROP if preprocessing.crop == "center" else ""
    return _CARD.format(
        name=name,
        architecture=architecture,
        context_length=model.text.context_length,
        embed_dim=model.text.embed_dim,
        image=model.image,
        text=model.text,
        tokenizer="BERT's word pieces, lower case" if is_bert else "CLIP's byte pairs",
        size=preprocessing.size,
        mean=list(preprocessing.mean),
        std=list(preprocessing.std),
        origin=_origin(source),
        differences=crop + ("" if is_bert else _CLIP_TEXTS),
    )


def _origin(source: str) -> str:
    if source.startswith("hf:"):
        return source
    path = Path(source)
    return f"{path.parents[1].name}, step {path.name}" if path.parent.name == "checkpoints" else path.name
