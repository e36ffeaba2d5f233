"""Twenty steps from the same weights on the same real batches give Keras's losses and weights.

Two right computations drift apart as fast as the training itself magnifies rounding: where the
background of an image is flat, rounding alone decides which of the values in a pooling window is
the greatest, and with it where a gradient goes. So how far apart they may be is measured: Keras
trains again, its weights moved by one unit in the last place before every step, as much as a sum
in another order would. A processor with other vector instructions changes both alike.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from safetensors.numpy import load_file, save_file

STEPS = 20
BATCH = 64


def mlp() -> keras.Model:
    """Two Dense layers on flat, scaled images."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def cnn() -> keras.Model:
    """The usual first convolutional network for such images."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def normalized() -> keras.Model:
    """A convolution with BatchNormalization and a Dropout that drops nothing.

    The convolution has no bias: its gradient before a BatchNormalization is rounding noise alone.
    """
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.Flatten(),
            layers.Dropout(0.0),
            layers.Dense(10, activation="softmax"),
        ]
    )


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(),
    "adagrad": lambda: keras.optimizers.Adagrad(0.01),
    "rmsprop": lambda: keras.optimizers.RMSprop(),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01)),
    "factor": lambda: keras.optimizers.SGD(0.01, loss_scale_factor=1024.0),
}


# Runs of Keras with moved weights, and how many times the greatest distance that one of them comes
# to is allowed: in a few hundred comparisons on several instruction sets it took no more than 3.
MOVED_RUNS = 5
ALLOWED = 8
# What single passes are compared to (tests/layers): nothing finer is asked of twenty.
RESOLUTION = 1e-5


@dataclass(frozen=True)
class Trajectory:
    """The loss of every step, and the weights after the last, by layer and variable."""

    losses: np.ndarray
    weights: dict[str, np.ndarray]

    def distance(self, other: Trajectory) -> dict[str, np.ndarray]:
        """How far `other` is away in each loss and all weights, relative to this."""
        losses = {"losses": np.abs(other.losses - self.losses) / np.abs(self.losses)}
        return losses | {
            path: np.linalg.norm(other.weights[path] - weight) / np.linalg.norm(weight)
            for path, weight in self.weights.items()
        }


class KerasRuns:
    """Keras on the same batches again and again, each time from the model's first state."""

    def __init__(self, model: keras.Model, batches: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Take down the state of `model`, which is compiled."""
        model.optimizer.build(model.trainable_variables)
        self.model, self.batches = model, batches
        self.variables = [*model.variables, *model.optimizer.variables]
        self.start = [variable.numpy() for variable in self.variables]

    def run(self, moved: np.random.Generator | None = None, faster: float = 1.0) -> Trajectory:
        """Train, the learning rate `faster` times the model's.

        With `moved` every weight goes to one of its neighbours before each step.
        """
        for variable, value in zip(self.variables, self.start, strict=True):
            variable.assign(value)
        rate = self.model.optimizer.learning_rate
        rate.assign(faster * rate.numpy())
        losses = []
        for x, y in self.batches:
            if moved is not None:
                for weight in self.model.weights:
                    away = np.where(moved.random(weight.shape) < 0.5, -np.inf, np.inf)
                    weight.assign(np.nextafter(weight.numpy(), away.astype(np.float32)))
            # The mean that train_on_batch returns runs over all steps so far: reset it for each.
            self.model.reset_metrics()
            losses.append(float(self.model.train_on_batch(x.astype(np.float32), y)))
        weights = {"/".join(w.path.split("/")[-2:]): w.numpy() for w in self.model.weights}
        return Trajectory(np.array(losses), weights)


def allowance(expected: Trajectory, runs: KerasRuns) -> dict[str, np.ndarray]:
    """How far from `expected` a right trajectory may be; in a loss as far as in those before it."""
    rng = np.random.default_rng(11)
    distances = [expected.distance(runs.run(moved=rng)) for _ in range(MOVED_RUNS)]
    greatest = {name: np.max([each[name] for each in distances], axis=0) for name in distances[0]}
    greatest["losses"] = np.maximum.accumulate(greatest["losses"])
    # Neither side can be nearer than rounding.
    ulp = np.finfo(np.float32).eps
    return {
        name: np.maximum(ALLOWED * np.maximum(value, ulp), RESOLUTION)
        for name, value in greatest.items()
    }


def excess(expected: Trajectory, actual: Trajectory, allowed: dict[str, np.ndarray]) -> list[str]:
    """Where `actual` is further from `expected` than allowed."""
    return [
        f"{name}: {distance} where {allowed[name]} is allowed"
        for name, distance in expected.distance(actual).items()
        if np.any(distance > allowed[name])
    ]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("build", [mlp, cnn, normalized])
def test_losses_and_weights_follow_keras(example, images, tmp_path: Path, build, optimizer):
    keras.utils.set_random_seed(7)
    model = build()
    model.compile(OPTIMIZERS[optimizer](), "sparse_categorical_crossentropy")
    model.save(tmp_path / "model.keras")
    (tmp_path / "compile.json").write_text(json.dumps(model.get_compile_config()))
    x, y = images
    starts = range(0, STEPS * BATCH, BATCH)
    batches = [(x[at : at + BATCH], y[at : at + BATCH]) for at in starts]
    tensors = {f"x_{i}": np.ascontiguousarray(x) for i, (x, _) in enumerate(batches)}
    tensors |= {f"y_{i}": np.ascontiguousarray(y) for i, (_, y) in enumerate(batches)}
    save_file(tensors, tmp_path / "batches.safetensors")

    example("replay", tmp_path)

    losses = np.array(json.loads((tmp_path / "losses.json").read_text()))
    actual = Trajectory(losses, load_file(tmp_path / "weights.safetensors"))
    runs = KerasRuns(model, batches)
    expected = runs.run()
    allowed = allowance(expected, runs)
    assert actual.weights.keys() == expected.weights.keys()
    assert excess(expected, actual, allowed) == []
    assert losses[-1] < losses[0]

    # What is allowed would not hide a learning rate that is one percent off.
    assert excess(expected, runs.run(faster=1.01), allowed) != []
