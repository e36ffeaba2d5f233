"""Models, optimizers, losses and metrics as the text that crosses to the JVM: no JVM needed."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from flambeau.keras_spec import model_text, spec


def compiled(keras):
    """A small compiled model."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def test_text_and_uris_go_to_the_jvm_as_they_are():
    for text in ('{"class_name": "Sequential"}', "hdfs:///models/cnn.json", "cnn.keras"):
        assert model_text(text) == text


def test_a_path_object_is_a_local_file():
    assert model_text(Path("/models/cnn.keras")) == "file:///models/cnn.keras"
    assert model_text(Path("cnn.json")) == (Path.cwd() / "cnn.json").as_uri()


def test_a_keras_model_travels_with_its_compile_settings(keras):
    kind, text = model_text(compiled(keras)).split(",")

    assert kind == "data:application/octet-stream;base64"
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(text))) as archive:
        assert "model.weights.h5" in archive.namelist()
        config = json.loads(archive.read("config.json"))
    assert config["compile_config"]["loss"] == "sparse_categorical_crossentropy"
    assert config["compile_config"]["metrics"] == ["accuracy"]
    assert config["compile_config"]["optimizer"]["class_name"] == "Adam"


def test_a_model_of_another_kind_is_refused_with_its_type():
    with pytest.raises(TypeError, match=r"model is a builtins\.int; give Keras JSON"):
        model_text(7)


def test_names_stay_names_and_configs_become_json():
    assert spec("adam") == "adam"
    assert json.loads(spec({"class_name": "Adam", "config": {}})) == {
        "class_name": "Adam",
        "config": {},
    }


def test_keras_objects_become_their_configs(keras):
    adam = json.loads(spec(keras.optimizers.Adam(0.5, beta_1=0.8)))
    assert (adam["class_name"], adam["config"]["learning_rate"]) == ("Adam", 0.5)
    assert adam["config"]["beta_1"] == 0.8

    loss = json.loads(spec(keras.losses.SparseCategoricalCrossentropy(from_logits=True)))
    assert loss["class_name"] == "SparseCategoricalCrossentropy"
    assert loss["config"]["from_logits"] is True

    metric = json.loads(spec(keras.metrics.SparseTopKCategoricalAccuracy(k=3)))
    assert (metric["class_name"], metric["config"]["k"]) == ("SparseTopKCategoricalAccuracy", 3)


def test_other_specs_are_refused_with_an_example():
    with pytest.raises(TypeError, match=r"0\.1 is a builtins\.float; give a Keras name such as"):
        spec(0.1)


def test_neither_keras_nor_spark_is_imported_before_it_is_needed():
    code = (
        "import sys, flambeau, flambeau.keras_spec as k; k.model_text('m.json'); k.spec('adam');"
        "sys.exit(bool({'keras', 'tensorflow', 'pyspark'} & set(sys.modules)))"
    )
    package = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=package)


def test_arguments_that_keras_leaves_out_of_a_config_are_not_lost(keras):
    losses = keras.losses
    assert json.loads(spec(losses.Huber(delta=0.5)))["config"]["delta"] == 0.5
    assert json.loads(spec(keras.metrics.CosineSimilarity(axis=1)))["config"]["axis"] == 1
    # What is Keras's default may stay away.
    assert "delta" not in json.loads(spec(losses.Huber()))["config"]

    model = compiled(keras)
    model.compile("sgd", {"dense": losses.Huber()}, metrics=[keras.metrics.AUC()])
    assert model_text(model).startswith("data:")
    model.compile("sgd", [losses.Huber(delta=0.5)])
    with pytest.raises(ValueError, match=r"Huber\(delta=0\.5\).* leave delta out: give it to"):
        model_text(model)
