"""The data and the model that every peer trains: Fashion-MNIST and the CNN of the main job."""

import gzip
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[2] / "build" / "data" / "fashion-mnist"
BATCH = 64


def images(kind: str = "train") -> np.ndarray:
    """Images as uint8 of shape (rows, 28, 28, 1)."""
    raw = gzip.decompress((DATA / f"{kind}-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28, 1)


def labels(kind: str = "train") -> np.ndarray:
    """Labels as int64 of shape (rows,)."""
    raw = gzip.decompress((DATA / f"{kind}-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(raw, np.uint8, offset=8).astype(np.int64)
