"""Write each model as a `.keras` file, with its inputs and labels: `prepare.py FOLDER`."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
from models import MODELS, data
from safetensors.numpy import save_file

for name, timed in MODELS.items():
    folder = Path(sys.argv[1]) / name
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(1)
    model = timed.make()
    model.save(folder / "model.keras")
    x, y = data(model, timed, max(timed.steps * timed.batch, timed.predicted))
    save_file({"x": np.ascontiguousarray(x), "y": y}, folder / "data.safetensors")
    settings = {
        "loss": timed.loss,
        "batch": timed.batch,
        "steps": timed.steps,
        "predicted": timed.predicted,
        "predict_batch": timed.predict_batch,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
