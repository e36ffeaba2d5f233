"""Write models as `.keras` files, with their inputs and labels.

Usage: prepare.py FOLDER [POLICY [NAME=SCALE ..]]: in Keras's dtype policy, float32 if it is not
said; of all models, or of those named, with steps of SCALE times as many rows.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
from models import MODELS, data
from safetensors.numpy import save_file

policy = sys.argv[2] if len(sys.argv) > 2 else "float32"
scales = {name: int(scale) for name, scale in (each.split("=") for each in sys.argv[3:])}
keras.mixed_precision.set_global_policy(policy)
for name in scales or MODELS:
    timed, scale = MODELS[name], scales.get(name, 1)
    folder = Path(sys.argv[1]) / name
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(1)
    model = timed.make()
    model.save(folder / "model.keras")
    batch = timed.batch * scale
    x, y = data(model, timed, max(timed.steps * batch, timed.predicted))
    save_file({"x": np.ascontiguousarray(x), "y": y}, folder / "data.safetensors")
    settings = {
        "policy": policy,
        "loss": timed.loss,
        "batch": batch,
        "steps": timed.steps,
        "predicted": timed.predicted,
        "predict_batch": timed.predict_batch,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
