"""Writes the training images as a Parquet table: `table.py PATH ROWS`."""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from fashion import images, labels

path, rows = Path(sys.argv[1]), int(sys.argv[2])
path.mkdir(parents=True)
table = pa.table(
    {
        "label": pa.array(labels()[:rows], pa.int32()),
        "image": pa.array([image.tobytes() for image in images()[:rows]], pa.binary()),
    }
)
for part in range(2):
    half = table.slice(part * rows // 2, rows // 2)
    pq.write_table(half, path / f"part-{part}.parquet", row_group_size=4096)
