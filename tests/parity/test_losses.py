"""Every loss of Keras, weighted and masked, split over ranks: its value and its gradient."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import tensorflow as tf
from keras.src.trainers.compile_utils import get_loss
from scoring import PARTS, ROWS, Case, ask, close, from_config, loss_object, run

RNG = np.random.default_rng(11)
DTYPES = [np.float32, np.float64]
# Of the greatest element, for values and gradients: rounding of the composed functions. In
# float64 it leaves no room for another formula.
TOLERANCE = {False: (3e-6, 2e-5), True: (1e-11, 1e-9)}
REDUCTIONS = ["sum", "mean", "mean_with_sample_weight", "none", None]


def scores(shape, activation) -> list[np.ndarray]:
    """Values before an activation: usual ones, extreme ones, and some like probabilities."""
    normal = RNG.normal(size=(ROWS, *shape))
    kinds = [normal, RNG.uniform(0, 1, size=(ROWS, *shape))]
    if activation is None:
        # Ties, and values that probabilities never have.
        kinds += [normal * 60, np.round(normal)]
    else:
        kinds += [normal * 30]
    return kinds


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
    ("CategoricalGeneralizedCrossEntropy", [{}, {"q": 0.8}], ["sigmoid"], ["ids"], [(4,)]),
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


def some(choices: list):
    """One of them."""
    return choices[RNG.integers(len(choices))]


def family_cases() -> list[Case]:
    """Every class with all its arguments, each with some of the weights, masks and splits."""
    cases = []
    for name, arguments, activations, labels, shapes in FAMILIES:
        for options, activation, label, shape in product(arguments, activations, labels, shapes):
            for x in scores(shape, activation):
                dtype = some(DTYPES)
                config = dict(options)
                if dtype is np.float64:
                    config["dtype"] = "float64"
                if RNG.uniform() < 0.4:
                    config["reduction"] = some(REDUCTIONS)
                weight, mask = None, None
                # Other axes than the last leave no steps that could be weighted.
                if "axis" not in options:
                    weight, mask = some(weights(shape)), some(masks(shape))
                y_true = LABELS[label](shape)
                y_true = y_true if label == "ids" else y_true.astype(dtype)
                case = (loss_object(name, **config), x.astype(dtype), y_true, activation)
                cases.append(Case(*case, weight, mask, some(PARTS)))
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


def tolerance(case: Case) -> tuple[float, float]:
    """That of the precision that the loss is computed in."""
    double = case.x.dtype == np.float64 and "float64" in json.dumps(case.config)
    return TOLERANCE[double]


def check(example, folder, cases: list[Case]) -> None:
    scored = run(example, folder, [ask("loss", case) for case in cases])
    for case, score in zip(cases, scored, strict=True):
        value, gradient = in_keras(case)
        of_value, of_gradient = tolerance(case)
        close(score["value"], [value], of_value, f"loss {case}")
        close(score["gradient"], gradient, of_gradient, f"gradient {case}")


def test_losses_and_their_gradients_are_those_of_keras(example, tmp_path):
    check(example, tmp_path, family_cases())


def overlap_cases() -> list[Case]:
    """Dice and Tversky, over the whole batch and over some axes."""
    cases = []
    named = [("Dice", {}), ("Tversky", {}), ("Tversky", {"alpha": 0.3, "beta": 0.9})]
    # Axes, and whether they leave values of rows that can be weighted.
    axes = [(None, True), (0, False), ([0, 1], False), (1, True), ([1, 2], True), (-1, True)]
    for (name, options), (axis, by_rows), reduction in product(
        named, axes, ["sum_over_batch_size", *REDUCTIONS]
    ):
        for shape in [(4,), (3, 4)]:
            if np.max(np.abs(axis or 0)) > len(shape):
                continue
            config = loss_object(name, **options, axis=axis, reduction=reduction)
            x = RNG.uniform(size=(ROWS, *shape))
            y_true = LABELS["binary"](shape).astype(float)
            config["config"]["dtype"] = "float64"
            # For values of rows only: those of steps are other axes here.
            weight = some([None, RNG.uniform(size=ROWS)])
            values = len(shape) + 1 - len(np.atleast_1d(axis)) if axis is not None else 0
            weight = None if not by_rows or values > 1 else weight
            mask = (
                some([None, RNG.uniform(size=(ROWS, *shape[:-1])) > 0.3]) if axis is None else None
            )
            if axis is None and mask is not None and mask.ndim > 1:
                weight = None
            cases.append(Case(config, x, y_true, None, weight, mask, some(PARTS)))
    return cases


def circle_cases() -> list[Case]:
    """Embeddings of a few classes, of one class, and of rows that are all of different ones."""
    cases = []
    for options, classes in product(
        [{}, {"gamma": 8.0, "margin": 0.25}, {"remove_diagonal": False}], [3, 1, 10**6]
    ):
        x = RNG.normal(size=(ROWS, 5))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        for labels in [(ROWS,), (ROWS, 1)]:
            weight = some([None, RNG.uniform(size=ROWS)])
            config = loss_object("Circle", **options, dtype="float64")
            y_true = RNG.integers(0, classes, labels)
            cases.append(Case(config, x, y_true, None, weight))
    return cases


def ctc_cases() -> list[Case]:
    """Sequences of all lengths that fit, none among them, with repeated labels."""
    cases = []
    for steps, longest, classes in [(9, 4, 5), (5, 2, 3), (3, 3, 8)]:
        for reduction, activation in product(["sum_over_batch_size", "sum"], [None, "softmax"]):
            y_true = RNG.integers(1, classes, (ROWS, longest))
            lengths = RNG.integers(0, longest + 1, ROWS)
            y_true[np.arange(longest) >= lengths[:, None]] = 0
            for row in y_true:
                repeats = np.sum((row[1:] == row[:-1]) & (row[1:] > 0))
                row[max(0, steps - repeats) :] = 0
            x = RNG.normal(size=(ROWS, steps, classes)).astype(np.float32) * 2
            weight = some([None, RNG.uniform(size=ROWS).astype(np.float32)])
            config = loss_object("CTC", reduction=reduction)
            cases.append(Case(config, x, y_true, activation, weight, None, some(PARTS)))
    return cases


def saturated(shape) -> np.ndarray:
    """Values of which some are far beyond what is left of them behind a softmax or sigmoid."""
    far = RNG.choice([-50, 0, 50], size=shape, p=[0.2, 0.6, 0.2])
    return (RNG.normal(size=shape) + far).astype(np.float32)


def shape_cases() -> list[Case]:
    """Labels and outputs whose ranks differ by one, and dtypes that cost the output its logits."""
    cases = []
    shapes = [
        ((), (1,)), ((3,), (3, 1)), ((3, 1), (3,)), ((4, 1), (4,)), ((1,), ()), ((2, 3), (2, 3, 1)),
    ]  # fmt: skip
    names = ["MeanSquaredError", "BinaryCrossentropy", "Hinge", "BinaryFocalCrossentropy", "Huber"]
    for (labels, outputs), name, activation in product(shapes, names, [None, "sigmoid"]):
        x = saturated((ROWS, *outputs))
        y_true = RNG.integers(0, 2, (ROWS, *labels)).astype(np.float32)
        cases.append(Case(loss_object(name), x, y_true, activation, parts=some(PARTS)))
    for activation, name, label in product(
        ["softmax", "sigmoid"],
        ["CategoricalCrossentropy", "SparseCategoricalCrossentropy", "BinaryCrossentropy"],
        ["one_hot", "ids"],
    ):
        if (label == "ids") == name.startswith("Sparse"):
            x = saturated((ROWS, 4))
            y_true = LABELS[label]((4,))
            cases.append(Case(loss_object(name, dtype="float64"), x, y_true, activation))
            cases.append(Case(loss_object(name), x.astype(np.float64), y_true, activation))
    ids = LABELS["ids"]((4,))[:, None]
    x = RNG.normal(size=(ROWS, 4)).astype(np.float32)
    cases.append(Case("sparse_categorical_crossentropy", x, ids, "softmax"))
    return cases


def test_losses_over_whole_batches_and_odd_shapes_are_those_of_keras(example, tmp_path):
    cases = overlap_cases() + circle_cases() + ctc_cases() + shape_cases()
    check(example, tmp_path, cases)
