"""Compare Flambeau's test accuracy with that of stock Keras on the model it exported.

Usage: check_with_keras.py DIR, the output directory of run.sh. Exits with an error when the two
accuracies differ by more than 0.001.
"""

import io
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

out = Path(sys.argv[1])


def parts(folder: Path) -> list[str]:
    """The text files that Spark wrote into a folder, in the order of its partitions."""
    return [part.read_text() for part in sorted(folder.glob("part-*"))]


rows = np.concatenate(
    [np.loadtxt(io.StringIO(part), delimiter=",", skiprows=1) for part in parts(out / "csv/test")]
)
labels, images = rows[:, 0], rows[:, 1:].reshape(-1, 28, 28, 1)
model = keras.models.load_model(out / "model/export/model.keras")
with_keras = float(np.mean(model.predict(images, batch_size=1000, verbose=0).argmax(1) == labels))

lines = re.findall(r"Label: (\d+), Prediction: (\d+)$", "".join(parts(out / "predictions")), re.M)
with_flambeau = sum(label == prediction for label, prediction in lines) / len(labels)

print(
    f"test accuracy over {len(labels)} rows: Flambeau {with_flambeau:.4f}, Keras {with_keras:.4f}"
)
if abs(with_keras - with_flambeau) > 0.001:
    sys.exit("the two differ by more than 0.001")
