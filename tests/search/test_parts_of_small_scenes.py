"""An index of many small scenes reads each part once, not once a scene."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lrsclip_jax.search import index_parts
from lrsclip_jax.search.tiles_table import tile_table


def test_a_part_that_scenes_share_is_read_once(tmp_path, monkeypatch):
    rows = np.arange(40, dtype=np.float32).reshape(10, 4)
    table = tile_table([{"id": str(number)} for number in range(10)])
    embeddings = pa.array([row.tobytes() for row in rows], pa.binary())
    for name in ("a", "b"):
        pq.write_table(table.append_column("embedding", embeddings), tmp_path / name)
    read, asked = pq.read_table, []
    monkeypatch.setattr(pq, "read_table", lambda path, **how: (asked.append(path.name), read(path, **how))[1])
    held: dict = {}
    slices = [(tmp_path / name, number, number + 1) for name in ("a", "b") for number in range(10)]
    found = [next(index_parts.read([index_parts.Slice(*one)], held)) for one in slices]
    assert asked == ["a", "b"]
    assert [tiles.column("id")[0].as_py() for tiles, _ in found] == [str(number) for number in range(10)] * 2
    assert np.array_equal(np.concatenate([raw for _, raw in found]), np.concatenate([rows, rows]))
