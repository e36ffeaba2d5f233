"""The examples with strings and several inputs, run as a user runs them and judged by Keras."""

from __future__ import annotations

import gzip
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


def test_a_transformer_trains_in_two_stages_as_it_does_as_a_whole():
    printed = run("pipeline", ROWS="1500").stdout
    found = re.findall(r"^(.*): loss (\d\.\d+), accuracy (0\.\d+)$", printed, re.M)
    assert [way for way, *_ in found] == ["as a whole", "in two stages"], printed
    [whole, stages] = [float(loss) for _, loss, _ in found]
    assert stages == pytest.approx(whole, rel=1e-3), printed
    models = [
        keras.models.load_model(ROOT / "build/pipeline/models" / way / "export/model.keras")
        for way in ("as-a-whole", "in-two-stages")
    ]
    [expected, weights] = [model.get_weights() for model in models]
    for own, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(own, other, atol=2e-3)


def test_a_search_keeps_the_best_of_its_models():
    printed = run("search", ROWS="2000", MASTER="local-cluster[2,2,1536]").stdout
    found = re.findall(r"^units (\d+) learningRate ([\d.e-]+): accuracy (0\.\d+)$", printed, re.M)
    assert len(found) == 4, printed
    best = max(found, key=lambda point: float(point[2]))
    model = keras.models.load_model(ROOT / "build/search/model/model.keras")
    assert model.layers[1].units == int(best[0])
    images, labels = fashion("t10k")
    right = np.mean(model.predict(images, batch_size=500, verbose=0).argmax(1) == labels)
    told = float(re.search(r"^best model on the test rows: accuracy (0\.\d+)$", printed, re.M)[1])
    assert told == pytest.approx(right, abs=1e-3) and told > 0.7


def fashion(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of the data that the examples take by themselves."""
    data = ROOT / "build/data/fashion-mnist"
    images = gzip.decompress((data / f"{split}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((data / f"{split}-labels-idx1-ubyte.gz").read_bytes())
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 784)
    return pixels.astype("float32"), np.frombuffer(labels, np.uint8, offset=8)
