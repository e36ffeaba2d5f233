"""Spectrograms against TensorFlow.

Keras takes windows by name from SciPy. Here its layers have them as numbers, and the config that
is read has the name in their place.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from oracle import Cases, build_forward, error_of, run_forward, sequential
from refusal import Refusals, change
from safetensors.numpy import load_file, save_file

CASES = Cases()
ran = CASES.fixture()

MODES = ["log", "magnitude", "psd", "real", "imag", "angle", "stft"]
LAST, FIRST = (40, 2), (2, 40)
FRAMES = {"frame_length": 8, "frame_step": 3, "fft_length": 16}
CUSTOM = np.random.default_rng(4).uniform(0.1, 1, 8).round(3).tolist()


def sums_of_cosines(samples: int, factors: list[float], *, periodic: bool = False) -> list[float]:
    """A window as SciPy makes it."""
    if samples == 1:
        return [1.0]
    turns = 2 * np.pi * np.arange(samples) / (samples if periodic else samples - 1)
    terms = [factor * (-1) ** k * np.cos(k * turns) for k, factor in enumerate(factors)]
    return np.sum(terms, axis=0).tolist()


def stft(shape: tuple, **options) -> Callable:
    """How to make a model of one STFTSpectrogram; a window of numbers unless one is given."""
    options = {**FRAMES, "window": CUSTOM, **options}
    return lambda: sequential(shape, L.STFTSpectrogram(**options))


for mode in MODES:
    for expand in [False, True]:
        for layout, shape in [("channels_last", LAST), ("channels_first", FIRST)]:
            options = {"mode": mode, "expand_dims": expand, "data_format": layout}
            name = f"stft-{mode}-{expand}-{layout}"
            CASES.add(name, stft(shape, **options))
            CASES.add(f"{name}-same", stft(shape, padding="same", **options))
for options in [
    {"frame_step": 1}, {"frame_step": 8}, {"fft_length": 8}, {"fft_length": 13}, {"fft_length": None},
    {"frame_step": None}, {"scaling": None}, {"scaling": "spectrum"}, {"periodic": True},
    {"trainable": False}, {"window": None}, {"frame_length": 1, "frame_step": 1, "window": [0.5]},
]:  # fmt: skip
    CASES.add(f"stft-{options}", stft(LAST, **options))
for layout, shape, given in [
    ("channels_last", (None, 2), (5, 40, 2)),
    ("channels_first", (2, None), (5, 2, 40)),
]:
    CASES.add(
        f"stft-unknown-{layout}",
        stft(shape, data_format=layout),
        inputs=lambda model, s=given: [np.random.default_rng(2).normal(size=s).astype("float32")],
    )
CASES.add("stft-half", stft(LAST, mode="real", dtype="mixed_float16"), tolerance=2e-2)
CASES.add(
    "stft-image",
    lambda: sequential(
        LAST, L.STFTSpectrogram(**FRAMES, window=CUSTOM, expand_dims=True), L.Conv2D(3, 3)
    ),
)

SOUND = {
    "fft_length": 32, "sequence_stride": 8, "sequence_length": 24, "num_mel_bins": 6,
    "sampling_rate": 8000,
}  # fmt: skip


def mel(shape: tuple = (100,), **options) -> Callable:
    """How to make a model of one MelSpectrogram."""
    return lambda: sequential(shape, L.MelSpectrogram(**{**SOUND, **options}))


MEL = [
    {}, {"window": "hamming"}, {"window": None}, {"sequence_length": None},
    {"sequence_length": 8, "window": CUSTOM}, {"sampling_rate": 16000}, {"sampling_rate": 7999},
    {"min_freq": 100.0}, {"max_freq": 3000.0}, {"max_freq": 3000.0, "num_mel_bins": 3},
    {"power_to_db": False}, {"mag_exp": 1.0}, {"mag_exp": 1.5, "power_to_db": False},
    {"top_db": 10.0}, {"top_db": 3.0}, {"min_power": 1.0}, {"ref_power": 0.01},
    {"ref_power": -3.0}, {"sequence_stride": 24}, {"fft_length": 33},
]  # fmt: skip
for options in MEL:
    CASES.add(f"mel-{options}", mel(**options))
CASES.add("mel-defaults", lambda: sequential((3000,), L.MelSpectrogram()), rows=2)
CASES.add("mel-channels", mel((3, 100)))
CASES.add("mel-unknown", mel((None,), fft_length=8, sequence_length=8))
CASES.add("mel-one-signal", lambda: keras.Sequential([
    keras.Input((), dtype="float32"), L.MelSpectrogram(**SOUND)]), rows=100)  # fmt: skip
CASES.add("mel-half", mel(dtype="mixed_float16"), tolerance=5e-2)
CASES.add("mel-float64", mel(dtype="float64", power_to_db=False))
CASES.add(
    "mel-integers",
    lambda: sequential((100,), L.MelSpectrogram(**SOUND), dtype="int32"),
    inputs=lambda model: [np.random.default_rng(2).integers(-99, 99, (5, 100)).astype("int32")],
)

test_layers = CASES.test()

# By name, SciPy's factors of cosines.
NAMED = {
    "boxcar": [1.0],
    "hann": [0.5, 0.5],
    "hamming": [0.54, 0.46],
    "blackman": [0.42, 0.5, 0.08],
    "nuttall": [0.3635819, 0.4891775, 0.1365995, 0.0106411],
    "blackmanharris": [0.35875, 0.48829, 0.14128, 0.01168],
    "flattop": [0.21557895, 0.41663158, 0.277263158, 0.083578947, 0.006947368],
}
INITIAL = [(name, {}) for name in NAMED] + [
    (name, {"periodic": True, **more})
    for name in ("hann", "blackman")
    for more in ({}, {"scaling": None}, {"scaling": "spectrum"}, {"frame_length": 7})
]


@pytest.fixture(scope="module")
def initialized(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[np.ndarray, np.ndarray]]:
    """What models without weights give, and what Keras's initial ones do."""
    build_forward()
    folder = tmp_path_factory.mktemp("initial")
    expected = []
    x = np.random.default_rng(3).normal(size=(2, *LAST)).astype("float32")
    for number, (name, options) in enumerate(INITIAL):
        options = {**FRAMES, "mode": "stft", "window": name, **options}
        window = sums_of_cosines(
            options["frame_length"], NAMED[name], periodic=options.get("periodic", False)
        )
        model = sequential(LAST, L.STFTSpectrogram(**{**options, "window": window}))
        expected.append(model(tf.constant(x)).numpy())
        document = json.loads(model.to_json())
        change("STFTSpectrogram", window=name)(document)
        case = folder / str(number)
        case.mkdir()
        (case / "model.json").write_text(json.dumps(document))
        tensors = {"x/0": x, "g/0": np.zeros_like(expected[-1])}
        save_file(tensors, case / "inputs.safetensors")
    run_forward(folder, "--initialize", "1")
    found = [load_file(folder / str(at) / "outputs.safetensors") for at in range(len(INITIAL))]
    return [(each["y/0"], wanted) for each, wanted in zip(found, expected, strict=True)]


@pytest.mark.parametrize("at", range(len(INITIAL)))
def test_initial_kernels(initialized: list[tuple[np.ndarray, np.ndarray]], at: int) -> None:
    """Kernels are initialized as Keras's, which are in float32: angles are rounded."""
    actual, expected = initialized[at]
    assert error_of(actual, expected) < 1e-5


def as_spectrogram(document: dict) -> None:
    """Puts a spectrogram in the place of the last layer: Keras takes no integers."""
    layer = document["config"]["layers"][-1]
    layer["class_name"] = layer["registered_name"] = "STFTSpectrogram"
    layer["config"] = {"name": "spectrogram", "dtype": "float32", **FRAMES, "window": CUSTOM}


REFUSALS = Refusals()
messages = REFUSALS.fixture()
REFUSALS.add(
    "window", stft(LAST), 'window = "kaiser"', "blackmanharris",
    edit=change("STFTSpectrogram", window="kaiser"),
)  # fmt: skip
REFUSALS.add("integers", lambda: sequential(LAST, L.Identity(), dtype="int32"), "int32",
             edit=as_spectrogram)  # fmt: skip
REFUSALS.add(
    "step", stft(LAST), "frame_step = 9", "frame_length = 8",
    edit=change("STFTSpectrogram", frame_step=9),
)  # fmt: skip
REFUSALS.add(
    "mel-window", mel(), 'window = "blackman"', "hamming",
    edit=change("MelSpectrogram", window="blackman"),
)  # fmt: skip
REFUSALS.add(
    "mel-length", mel(), "sequence_length = 64", "fft_length = 32",
    edit=change("MelSpectrogram", sequence_length=64),
)  # fmt: skip

test_refusals = REFUSALS.test()
