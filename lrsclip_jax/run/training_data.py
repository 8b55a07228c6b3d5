"""The feed of the loop: batches made on the host, and on the devices before they are needed."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jax.sharding import Mesh
from ml_collections import ConfigDict

from lrsclip_jax.data.batches import pipeline, prefetch
from lrsclip_jax.data.batches.batch import BatchShape
from lrsclip_jax.data.batches.saved_features import ImageFeatures, TextFeatures
from lrsclip_jax.data.batches.sentence_draws import sentence_draws
from lrsclip_jax.data.batches.turns import turns_of_sources
from lrsclip_jax.data.prepared.records import Records
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.data.tokenizer import Tokenizer
from lrsclip_jax.run.throughput import Batch
from lrsclip_jax.sharding import local_rows, to_devices

Sources = Sequence[tuple[Records, float]]


class TrainingData(NamedTuple):
    """The records that a run trains on, with the weight of each source, how they are read, and saved features."""

    sources: Sources
    tokenizer: Tokenizer
    preprocessing: Preprocessing
    image_features: Sequence[ImageFeatures] = ()
    text_features: Sequence[TextFeatures] = ()

    @property
    def samples(self) -> int:
        """How many samples an epoch has."""
        return sum(len(source) for source, _ in self.sources)

    def record_ids(self, config: ConfigDict, step: int) -> list[str]:
        """Returns "SOURCE: record id" for every row of the global batch of `step`, the first being 1."""
        return pipeline.record_ids(self.sources, config.batch_size, config.seed, step)


@contextlib.contextmanager
def batches_on_devices(
    data: TrainingData,
    config: ConfigDict,
    layout: BatchShape,
    mesh: Mesh,
    report: pipeline.DataReport,
    steps: range,
) -> Iterator[Iterator[Batch]]:
    """A context that yields an iterator over the global batches of `steps`, split over the mesh.

    Args:
      data: of the run.
      config: of the run.
      layout: of a batch.
      mesh: whose devices take the batches; those of this process take their rows.
      report: counts what happens to the records.
      steps: of the run, the first being 1.
    """
    on_host = pipeline.batches(
        data.sources,
        data.tokenizer,
        data.preprocessing,
        layout,
        report,
        seed=config.seed,
        start_step=steps.start - 1,
        short_text=config.data.short_text,
        draws=sentence_draws(config),
        turns=turns_of_sources(config),
        image_features=data.image_features,
        text_features=data.text_features,
        crop_scale=config.data.crop_scale,
        decoder=config.data.decoder,
        threads=config.data.threads,
        workers=config.data.workers,
        rows=local_rows(layout.batch_size, mesh),
    )
    wanted = itertools.islice(on_host, len(steps))
    on_devices = prefetch.ahead(
        wanted, lambda batch: to_devices(batch, mesh, layout.batch_size, offloaded=layout.offloaded)
    )
    with contextlib.closing(on_host), contextlib.closing(on_devices):
        yield on_devices
