"""The examples with strings and several inputs, run as a user runs them and judged by Keras."""

from __future__ import annotations

import json
import os
import re

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import pytest
import tensorflow as tf

from examples import ROOT, run

CODES = ["carrier", "origin", "dest"]
NUMBERS = ["month", "weekday", "hour", "minute", "distance"]


def exported(name: str) -> keras.Model:
    """The model that an example left, as stock Keras opens it."""
    return keras.models.load_model(ROOT / "build" / name / "model/export/model.keras")


def predictions(name: str) -> list[dict]:
    """The rows that an example predicted."""
    parts = sorted((ROOT / "build" / name / "model/predictions").glob("part-*"))
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


def history(name: str) -> dict[str, list[float]]:
    """Loss and metrics of each epoch."""
    return json.loads((ROOT / "build" / name / "model/history.json").read_text())


def test_sections_of_packages_are_told_from_their_descriptions():
    printed = run("packages").stdout
    accuracy = float(re.search(r"\|\s*(0\.\d+)\|", printed).group(1))
    assert accuracy > 0.7
    rows, model = predictions("packages"), exported("packages")
    descriptions = tf.constant([row["description"] for row in rows])
    expected = model.predict(descriptions, batch_size=512, verbose=0)
    assert np.array([row["output"] for row in rows]) == pytest.approx(expected, abs=1e-5)
    labels = np.array([row["label"] for row in rows])
    assert float(np.mean(expected.argmax(1) == labels)) == pytest.approx(accuracy)
    losses = history("packages")["loss"]
    assert losses == sorted(losses, reverse=True)
    assert model.get_layer("text_vectorization").get_vocabulary()[:2] == ["", "[UNK]"]


def test_late_flights_are_told_from_codes_and_numbers():
    run("flights")
    rows, model = predictions("flights"), exported("flights")
    codes = tf.constant([[row[name] for name in CODES] for row in rows])
    numbers = np.array([[row[name] for name in NUMBERS] for row in rows], "float32")
    inputs = {"codes": codes, "numbers": numbers}
    expected = model.predict(inputs, batch_size=4096, verbose=0)
    assert np.array([row["output"] for row in rows]) == pytest.approx(expected, abs=1e-5)
    area = keras.metrics.AUC()
    area.update_state([row["late"] for row in rows], expected[:, 0])
    assert float(area.result()) > 0.66
    assert set(history("flights")) == {"loss", "AUC"}


def test_both_forms_of_the_predecessors_data_train_in_both_input_modes():
    printed = run("tfos", ROWS="3000").stdout
    found = dict(re.findall(r"^(v\d \w+ inputMode=\w+): accuracy (0\.\d+)$", printed, re.M))
    forms = [f"{line} {kind}" for line in ("v2", "v1") for kind in ("csv", "tfr")]
    assert list(found) == [
        f"{form} inputMode={mode}" for form in forms for mode in ("spark", "direct")
    ]
    for way, accuracy in found.items():
        assert float(accuracy) > 0.65, printed
        folder = way.replace(" inputMode=", "-").replace(" ", "-")
        keras.models.load_model(ROOT / "build/tfos/models" / folder / "export/model.keras")


def test_the_predecessors_model_trains_through_parameter_servers_as_well_as_in_step():
    five_executors = "local-cluster[5,1,1536]"
    printed = run("servers", MASTER=five_executors, ROWS="3000", STEPS="400").stdout
    found = dict(re.findall(r"^(.*, \d workers): accuracy (0\.\d+)$", printed, re.M))
    in_step, *apart = (float(accuracy) for accuracy in found.values())
    assert len(apart) == 2 and min(apart) > in_step - 0.03, printed
    assert printed.count("updates by staleness: 0: ") == 2
    for way in ("1-server-2-workers", "2-servers-3-workers"):
        keras.models.load_model(ROOT / "build/servers/models" / way / "export/model.keras")
