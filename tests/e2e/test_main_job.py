"""The main job on real data: `make mnist` as a user runs it, judged by what it leaves behind."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from examples import ROOT, run

OUT = ROOT / "build/mnist"
MODEL = OUT / "model"
EPOCHS = 3
Job = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def job() -> Job:
    """The job, run once to its end."""
    return run("mnist")


def test_stock_keras_confirms_the_accuracy_of_the_exported_model(job: Job):
    report = re.search(r"over 10000 rows: Flambeau ([\d.]+), Keras ([\d.]+)", job.stdout)
    assert report is not None, job.stdout
    flambeau, keras = map(float, report.groups())
    assert flambeau >= 0.88
    assert abs(flambeau - keras) <= 0.001


def test_the_model_directory_holds_what_a_user_looks_for(job: Job):
    names = {path.relative_to(MODEL).as_posix() for path in MODEL.rglob("*") if path.is_file()}
    assert {"checkpoint", "model.json", "history.json", "export/model.keras"} <= names
    assert any(name.startswith("train/events.out.tfevents.") for name in names)
    assert any(name.startswith("validation/events.out.tfevents.") for name in names)

    checkpoints = sorted(name for name in names if re.fullmatch(r"ckpt-\d+\.safetensors", name))
    assert len(checkpoints) == EPOCHS
    newest = max(checkpoints, key=lambda name: int(re.findall(r"\d+", name)[0]))
    pointer = (MODEL / "checkpoint").read_text()
    assert f'model_checkpoint_path: "{newest.removesuffix(".safetensors")}"\n' in pointer
    assert not [name for name in names if name.endswith(".tmp")]


def test_the_history_has_a_value_for_each_epoch(job: Job):
    history = json.loads((MODEL / "history.json").read_text())
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert all(len(values) == EPOCHS for values in history.values())
    assert history["loss"] == sorted(history["loss"], reverse=True)
    assert history["val_accuracy"][-1] >= 0.88


def test_tensorboard_reads_the_events(job: Job):
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = json.loads((MODEL / "history.json").read_text())
    for folder, prefix in ("train", ""), ("validation", "val_"):
        accumulator = EventAccumulator(str(MODEL / folder))
        accumulator.Reload()
        for name in "loss", "accuracy":
            events = accumulator.Tensors(f"epoch_{name}")
            assert [event.step for event in events] == list(range(EPOCHS))
            values = [tf.make_ndarray(event.tensor_proto).item() for event in events]
            assert values == pytest.approx(history[prefix + name], abs=1e-6)


def test_tensorflow_reads_the_prepared_records(job: Job):
    import tensorflow as tf

    features = {
        "label": tf.io.FixedLenFeature([1], tf.int64),
        "image": tf.io.FixedLenFeature([784], tf.int64),
    }
    parts = sorted(str(part) for part in (OUT / "tfr/test").glob("part-*.tfrecord"))
    records = list(tf.data.TFRecordDataset(parts).batch(10_000).as_numpy_iterator())
    examples = tf.io.parse_example(records[0], features)
    assert examples["image"].shape == (10_000, 784)
    assert sorted(set(examples["label"].numpy().ravel())) == list(range(10))
    assert 0 <= examples["image"].numpy().min() < examples["image"].numpy().max() == 255


def test_each_test_row_has_a_line_of_label_and_prediction(job: Job):
    parts = sorted((OUT / "predictions").glob("part-*"))
    lines = [line for part in parts for line in part.read_text().splitlines()]
    assert len(lines) == 10_000
    form = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6} Label: \d, Prediction: \d")
    assert [line for line in lines if not form.fullmatch(line)] == []


def test_the_user_sees_training_advance(job: Job):
    for epoch in range(1, EPOCHS + 1):
        assert f"epoch {epoch}/{EPOCHS}" in job.stdout + job.stderr
