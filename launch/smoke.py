"""A smoke test of an installation or an image: trains two steps, loads the model, reads a GeoTIFF.

python launch/smoke.py
docker run --rm --entrypoint=python lrsclip_jax launch/smoke.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import rasterio

import lrsclip_jax
from lrsclip_jax import cli

SMALL = (
    "--config.data.sources=scenes:16:0 --config.eval.sources=scenes:8:1 --config.batch_size=8 --config.epochs=1.0"
    " --config.optimizer.warmup_steps=1 --config.model.image.layers=1 --config.model.text.layers=1"
    " --config.eval.truncations=() --config.log.tensorboard=False --config.train.compilation_cache=None"
)


def main() -> None:
    """Trains, loads and embeds in a temporary folder; prints "works" at the end."""
    with tempfile.TemporaryDirectory() as folder:
        run, scene = Path(folder, "run"), Path(folder, "scene.tif")
        cli.main(["train", "--config=quickstart", f"--workdir={run}", *SMALL.split()])
        pixels = np.random.default_rng(0).integers(256, size=(3, 64, 64), dtype=np.uint8)
        place = rasterio.transform.from_origin(11.0, 48.0, 1e-4, 1e-4)
        with rasterio.open(
            scene, "w", driver="GTiff", width=64, height=64, count=3, dtype="uint8", crs="EPSG:4326", transform=place
        ) as file:
            file.write(pixels)
        model = lrsclip_jax.load(run)
        cosine = (model.images([scene]) @ model.texts(["a harbour"]).T).item()
        assert (run / "report.html").is_file() and abs(cosine) <= 1.0 + 1e-6
    print("works")


if __name__ == "__main__":
    main()
