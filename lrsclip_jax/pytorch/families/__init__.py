"""The PyTorch families: a module for each layout of checkpoints that can be read.

To add a family:

1. Write a module in this folder with two functions, `recognises(tensors)` and `read(tensors, config, hints, folder)`
   (see `Family`). Its table, a list of `layout.Leaf`, says where each parameter stands and in which form; the table is
   read both ways, so an export can use it too. `bert.py` is a short example.
2. Add the module to `FAMILIES`. The first family that recognises a file reads it.
3. Test it against the code that wrote such files, as `tests/pytorch/test_bert_checkpoints.py` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from lrsclip_jax.pytorch.contract import Hints, ReadCheckpoint
from lrsclip_jax.pytorch.files.tensors import Tensors

# module: the file next to the weights that describes them
FAMILIES = {
    "open_clip_siglip": "open_clip_config.json",
    "openvision": "open_clip_config.json",
    "openai": "open_clip_config.json",
    "huggingface": "config.json",
    "siglip": "config.json",
    "dual_encoder": "config.json",
    "bert": "config.json",
    "mae": "config.json",
    "dinov3": "config.json",
    "dinov2": "config.json",
    "vit": "config.json",
}


class Family(Protocol):
    """What `pytorch.read` asks of a family's module."""

    @staticmethod
    def recognises(tensors: Tensors) -> bool:
        """Returns whether a file is of this family, by its keys."""

    @staticmethod
    def read(tensors: Tensors, config: dict[str, Any] | None, hints: Hints, folder: Path) -> ReadCheckpoint:
        """Returns the weights of a file that is recognised.

        Args:
          tensors: the file.
          config: what the describing file holds, None where there is none.
          hints: what the user says of the file.
          folder: of the file; for a preprocessor's or tokenizer's files.

        Raises:
          InputError: the file is of another model than the config says, or a fact is missing that only the user knows.
        """
