"""The sets on which long texts are compared, by name. `EVALUATION_SETS` lists them.

To add one, write its reader and give it a line there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lrsclip_jax.sources.item import Fault, Item
from lrsclip_jax.sources.published import dci, docci, iiw, sharegpt4v, urban1k


class EvaluationSet(NamedTuple):
    """A set.

    Attributes:
      title: as the papers call it.
      help: a line about it, which begins with what the user points at.
      read: takes that path, the folder of the images or None, the name of the source, and where the files of a split
        can be told before they are read `only`, the one that is wanted.
      split: the one that is evaluated where the user names none; None: all.
    """

    title: str
    help: str
    read: Callable[..., Iterator[Item | Fault]]
    split: str | None = None

    def skips(self) -> bool:
        """Whether `read` takes `only`."""
        return "only" in inspect.signature(self.read).parameters


EVALUATION_SETS: dict[str, EvaluationSet] = {
    "urban1k": EvaluationSet("Urban1k", "FOLDER of image/ and caption/: Long-CLIP's 1,000 cities", urban1k.read),
    "docci": EvaluationSet("DOCCI", f"FOLDER of {docci.DESCRIPTIONS} and images/", docci.read, "test"),
    "himo-docci": EvaluationSet("HiMo-Docci", "FILE of HiMo-CLIP's texts that grow", docci.read_growing),
    "dci": EvaluationSet("DCI", "FOLDER of splits.json, annotations/ and photos/: all, whole texts", dci.read),
    "dci-summaries": EvaluationSet("sDCI", "that FOLDER: a summary of each image", dci.read_summaries, "test"),
    "long-dci": EvaluationSet("Long-DCI", "that FOLDER, or dci_long.csv: TULIP's long texts of DCI", dci.read_long),
    "iiw": EvaluationSet("IIW", "FOLDER of DOCCI_Test/, IIW-400/ and DCI_Test/: all, or one as a split", iiw.read),
    "sharegpt4v-1k": EvaluationSet("ShareGPT4V-1k", f"FILE {sharegpt4v.FILE}: its first rows", sharegpt4v.read_1k),
    "sharegpt4v-10k": EvaluationSet("ShareGPT4V-10k", "that FILE: its first 10,000 rows", sharegpt4v.read_10k),
}
