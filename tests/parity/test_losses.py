"""Every loss of Keras, weighted and masked, split over ranks: its value and its gradient."""

from __future__ import annotations

from itertools import cycle, product

import numpy as np
import pytest
import tensorflow as tf
from keras.src.trainers.compile_utils import get_loss
from scoring import PARTS, ROWS, Case, ask, close, from_config, function, loss_object, run

RNG = np.random.default_rng(11)
DTYPES = [np.float32, np.float64]
# Of the greatest element: rounding of the composed functions in each precision.
TOLERANCE = {np.float32: 3e-6, np.float64: 1e-12}
REDUCTIONS = ["sum", "mean", "mean_with_sample_weight", "none", None]


def scores(shape, activation, dtype) -> list[np.ndarray]:
    """Values before an activation: usual ones, extreme ones, and some like probabilities."""
    normal = RNG.normal(size=(ROWS, *shape))
    kinds = [normal, RNG.uniform(0, 1, size=(ROWS, *shape))]
    if activation is None:
        # Ties, and values that probabilities never have.
        kinds += [normal * 60, np.round(normal)]
    else:
        kinds += [normal * 30]
    return [values.astype(dtype) for values in kinds]


def weights(shape) -> list[np.ndarray | None]:
    """Row weights, and for outputs of several steps those of steps; some are zero."""
    rows = RNG.uniform(0, 3, ROWS).astype(np.float32) * (RNG.uniform(size=ROWS) > 0.2)
    if len(shape) == 1:
        return [None, rows, rows[:, None]]
    steps = RNG.uniform(0, 3, (ROWS, *shape[:-1])).astype(np.float32)
    return [None, rows.reshape(ROWS, *[1] * (len(shape) - 1)), steps, steps[..., None]]


def masks(shape) -> list[np.ndarray | None]:
    """None, one of rows or steps, and one that lets nothing through."""
    mask = RNG.uniform(size=(ROWS, *shape[:-1])) > 0.3
    return [None, mask, np.zeros_like(mask)]


def one_hot(shape) -> np.ndarray:
    return np.eye(shape[-1])[RNG.integers(0, shape[-1], (ROWS, *shape[:-1]))]


LABELS = {
    "values": lambda shape: RNG.normal(size=(ROWS, *shape)),
    "shares": lambda shape: RNG.uniform(size=(ROWS, *shape)),
    "binary": lambda shape: RNG.integers(0, 2, (ROWS, *shape)),
    "signs": lambda shape: RNG.integers(0, 2, (ROWS, *shape)) * 2 - 1,
    "one_hot": one_hot,
    "ids": lambda shape: RNG.integers(0, shape[-1], (ROWS, *shape[:-1])),
    "counts": lambda shape: RNG.poisson(2, (ROWS, *shape)),
}
SHAPES = [(4,), (3, 4), (2, 3, 4)]
WIDE = [*SHAPES, (1,)]
BOTH = [None, "softmax", "sigmoid"]

# Class, arguments, activations, kinds of labels, shapes.
FAMILIES = [
    ("BinaryCrossentropy", [{}, {"from_logits": True, "label_smoothing": 0.1}, {"label_smoothing": 0.2}],
     BOTH, ["binary", "shares"], SHAPES),
    ("BinaryCrossentropy", [{}], [None, "sigmoid"], ["binary"], [(1,), (3, 1)]),
    ("BinaryCrossentropy", [{"axis": 1}, {"axis": [1, 2]}, {"axis": -2, "from_logits": True}],
     [None, "sigmoid"], ["binary"], [(3, 4)]),
    ("BinaryFocalCrossentropy",
     [{}, {"from_logits": True, "apply_class_balancing": True}, {"gamma": 3.0, "alpha": 0.4, "apply_class_balancing": True, "label_smoothing": 0.1}],
     BOTH, ["binary", "shares"], SHAPES),
    ("BinaryFocalCrossentropy", [{}, {"from_logits": True}], [None, "sigmoid"], ["binary"], [(1,)]),
    ("CategoricalCrossentropy", [{}, {"from_logits": True}, {"label_smoothing": 0.1}],
     BOTH, ["one_hot", "binary"], SHAPES),
    ("CategoricalCrossentropy", [{"axis": 1}, {"axis": 1, "from_logits": True, "label_smoothing": 0.3}],
     BOTH, ["one_hot"], [(3, 4)]),
    ("CategoricalFocalCrossentropy",
     [{}, {"from_logits": True, "gamma": 1.5}, {"alpha": [0.1, 0.2, 0.3, 0.4], "label_smoothing": 0.1}],
     BOTH, ["one_hot"], SHAPES),
    ("CategoricalFocalCrossentropy", [{"axis": 1}], BOTH, ["one_hot"], [(3, 4)]),
    ("SparseCategoricalCrossentropy",
     [{}, {"from_logits": True}, {"ignore_class": 1}, {"ignore_class": 0, "from_logits": True}],
     BOTH, ["ids"], SHAPES),
    ("CategoricalGeneralizedCrossEntropy", [{}, {"q": 0.8}], ["softmax"], ["ids"], [(4,)]),
    ("CategoricalHinge", [{}], BOTH, ["one_hot", "signs"], SHAPES),
    ("Hinge", [{}], [None, "sigmoid"], ["binary", "signs", "values"], WIDE),
    ("SquaredHinge", [{}], [None, "sigmoid"], ["binary", "signs", "values"], WIDE),
    ("CosineSimilarity", [{}], BOTH, ["values", "one_hot"], SHAPES),
    ("CosineSimilarity", [{"axis": 1}, {"axis": [1, 2]}], [None], ["values"], [(3, 4)]),
    ("Huber", [{}, {"delta": 0.3}], [None, "sigmoid"], ["values"], WIDE),
    ("LogCosh", [{}], [None, "sigmoid"], ["values"], WIDE),
    ("KLDivergence", [{}], BOTH, ["shares", "one_hot"], SHAPES),
    ("MeanAbsoluteError", [{}], [None, "sigmoid"], ["values", "binary"], WIDE),
    ("MeanSquaredError", [{}], [None, "sigmoid"], ["values", "binary"], WIDE),
    ("MeanAbsolutePercentageError", [{}], [None, "sigmoid"], ["values", "binary"], WIDE),
    ("MeanSquaredLogarithmicError", [{}], [None, "sigmoid"], ["values", "counts"], WIDE),
    ("Poisson", [{}], ["sigmoid"], ["counts"], WIDE),
]  # fmt: skip


def family_cases(dtype) -> list[Case]:
    """Every class with all its arguments, each with some of the weights, masks and splits."""
    cases = []
    parts, reductions = cycle(PARTS), cycle([{}, {}, {}] + [{"reduction": r} for r in REDUCTIONS])
    for name, arguments, activations, labels, shapes in FAMILIES:
        for options, activation, label, shape in product(arguments, activations, labels, shapes):
            reducible = "axis" not in options
            weighted = list(product(weights(shape), masks(shape))) if reducible else [(None, None)]
            weighted = cycle(weighted)
            for x in scores(shape, activation, dtype) * 3:
                config = {**options, **next(reductions)}
                if dtype is np.float64:
                    config["dtype"] = "float64"
                weight, mask = next(weighted)
                y_true = LABELS[label](shape)
                y_true = y_true if label == "ids" else y_true.astype(dtype)
                case = (loss_object(name, **config), x, y_true, activation, weight, mask)
                cases.append(Case(*case, next(parts)))
    return cases


def in_keras(case: Case) -> tuple[float, np.ndarray]:
    """What Keras logs, and the gradient of what it minimises."""
    x = tf.constant(case.x)
    loss = get_loss(from_config(case.config), tf.constant(case.y_true), x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = loss(tf.constant(case.y_true), case.output(x), case.weights)
    gradient = tape.gradient(value, x)
    gradient = np.zeros_like(case.x) if gradient is None else tf.convert_to_tensor(gradient).numpy()
    return float(np.mean(value)), gradient


def check(example, folder, cases: list[Case], tolerance: float) -> None:
    scored = run(example, folder, [ask("loss", case) for case in cases])
    for case, score in zip(cases, scored, strict=True):
        value, gradient = in_keras(case)
        close(score["value"], [value], tolerance, f"loss {case}")
        close(score["gradient"], gradient, tolerance, f"gradient {case}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_and_their_gradients_are_those_of_keras(example, tmp_path, dtype):
    check(example, tmp_path, family_cases(dtype), TOLERANCE[dtype])
