"""Every metric of Keras with all its options, weighted and masked, over several batches."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.trainers.compile_utils import get_metric
from scoring import PARTS, ROWS, Case, ask, close, from_config, function, metric_object, run

# Of the greatest element: Keras adds up in float32.
TOLERANCE = 1e-6
# Keras takes the square of a mean from the mean of squares.
RELATIVE = {"R2Score": 1e-5}
# Differences of numbers around 1, of which float32 leaves as many digits as those have.
AROUND_ONE = {
    "AUC",
    "PearsonCorrelation",
    "ConcordanceCorrelation",
    "CosineSimilarity",
    "R2Score",
    "KLDivergence",
}
# Numbers of rows, or quotients of such numbers.
COUNTS = {
    "TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives", "Precision", "Recall",
    "SensitivityAtSpecificity", "SpecificityAtSensitivity", "PrecisionAtRecall", "RecallAtPrecision",
}  # fmt: skip
# How many cases there are of each class, option, kind of labels and shape.
DRAWS = 4

RNG = np.random.default_rng(5)
Array = np.ndarray
Shape = tuple[int, ...]
Options = dict[str, Any]


def some(choices: list):
    """One of them."""
    return choices[RNG.integers(len(choices))]


def one_hot(shape: Shape) -> Array:
    """One 1 in each last axis."""
    return np.eye(shape[-1])[RNG.integers(0, shape[-1], (ROWS, *shape[:-1]))]


# Kinds of labels, with the dtypes that each can have.
FLOATS = [np.float32, np.float64]
WHOLE = [*FLOATS, np.int32, np.int64]
LABELS: dict[str, tuple[Callable[[Shape], Array], list]] = {
    "values": (lambda shape: RNG.normal(size=(ROWS, *shape)) + 1, FLOATS),
    "shares": (lambda shape: RNG.uniform(size=(ROWS, *shape)), FLOATS),
    "binary": (lambda shape: RNG.integers(0, 2, (ROWS, *shape)), [*WHOLE, np.bool_]),
    "signs": (lambda shape: RNG.integers(0, 2, (ROWS, *shape)) * 2 - 1, WHOLE),
    "counts": (lambda shape: RNG.poisson(2, (ROWS, *shape)), WHOLE),
    "one_hot": (one_hot, [*WHOLE, np.bool_]),
    "ids": (lambda shape: RNG.integers(0, shape[-1], (ROWS, *shape[:-1])), WHOLE),
    "places": (lambda shape: RNG.integers(-1, 5, (ROWS, *shape)), WHOLE),
}


def scores(shape: Shape) -> Array:
    """Values before an activation: usual ones, ties, and extremes."""
    normal = RNG.normal(size=(ROWS, *shape))
    return some([normal, np.round(normal), normal * 30])


def probabilities(shape: Shape) -> Array:
    """Values as of a sigmoid: usual ones, on and beside thresholds, certain ones, beyond [0, 1]."""
    uniform = RNG.uniform(size=(ROWS, *shape))
    near = np.round(uniform, 1) * (1 + RNG.choice([-2e-8, 0, 2e-8, 1e-12], size=uniform.shape))
    return some([uniform, np.round(uniform, 1), near, np.round(uniform), uniform * 3 - 1])


def some_nan(values: Array) -> Array:
    """Some of them are NaN."""
    return np.where(RNG.uniform(size=values.shape) < 0.15, np.nan, values)


# Kinds of outputs: what they are before an activation, and which activations can follow.
OUTPUTS: dict[str, tuple[Callable[[Shape], Array], list]] = {
    "any": (scores, [None, "sigmoid", "softmax"]),
    "raw": (scores, [None]),
    "wide": (scores, [None, "sigmoid"]),
    "positive": (scores, ["sigmoid"]),
    "share": (probabilities, [None]),
    "nan": (lambda shape: some_nan(scores(shape)), [None]),
    "nan share": (lambda shape: some_nan(probabilities(shape)), [None]),
    "ids": (lambda shape: RNG.integers(-1, 5, (ROWS, *shape)).astype(float), [None]),
}


def of_rows(shape: Shape) -> list[Shape]:
    """One weight a row."""
    return [(ROWS,)]


def of_means(shape: Shape) -> list[Shape]:
    """Those of values without a last axis."""
    steps = (ROWS, *shape[:-1])
    return [(ROWS,), (ROWS, *[1] * (len(shape) - 1)), steps, (*steps, 1)]


def of_elements(shape: Shape) -> list[Shape]:
    """Those of values that are broadcast from the last axis."""
    return [(ROWS, *shape[:-1]), (ROWS, *shape[:-1], 1), (ROWS, *shape)]


def of_each(shape: Shape) -> list[Shape]:
    """One weight for each label."""
    return [(ROWS, *shape)]


def of_steps(shape: Shape) -> list[Shape]:
    """One for each position of the last axis."""
    return [(ROWS, *shape[:-1]), (ROWS, *shape[:-1], 1)]


@dataclass
class Family:
    """A class, or a function, with what it is tried with."""

    name: str
    options: list[Options]
    outputs: list[str]
    labels: list[str]
    shapes: list[Shape]
    weights: Callable[[Shape], list[Shape]] = of_means
    # Whether all weights are whole numbers: what Keras adds up in float32 then is exact.
    whole: bool = False
    # What outputs can be; TensorFlow's `in_top_k` takes no float64.
    dtypes: list = field(default_factory=lambda: FLOATS)


FEW: list[Shape] = [(4,), (3, 4)]
WIDE: list[Shape] = [(1,), (4,), (3, 4)]
FLAT: list[Shape] = [(4,)]
AT: list[Options] = [
    {},
    {"num_thresholds": 1},
    {"num_thresholds": 2},
    {"num_thresholds": 7},
    {"class_id": 2},
    {"class_id": -1},
]
BOUNDS = [0.0, 0.5, 0.8, 1.0]
AUC: list[Options] = [
    *[{"curve": curve, "summation_method": summation, "num_thresholds": number}
      for curve, summation, number in product(
        ["ROC", "PR", "PRGAIN"], ["interpolation", "majoring", "minoring"], [200, 5, 2])],
    {"curve": "pr", "summation_method": "Majoring"},
    {"thresholds": [0.7, 0.25, 0.3]},
    {"thresholds": [0.25, 0.5, 0.75]},
    {"thresholds": [0.5]},
    {"thresholds": []},
    {"label_weights": [0.5, 1.0, 2.0, 0.0]},
    {"label_weights": [0.5, 1.0, 2.0, 0.0], "thresholds": [0.2, 0.9]},
]  # fmt: skip
MULTI_LABEL: list[Options] = [
    {"multi_label": True},
    {"multi_label": True, "num_labels": 4, "label_weights": [0.5, 1.0, 2.0, 0.0]},
    {"multi_label": True, "label_weights": [0.0, 0.0, 0.0, 0.0]},
    {"multi_label": True, "curve": "PR"},
    {"multi_label": True, "curve": "PRGAIN", "label_weights": [0.5, 1.0, 2.0, 0.0]},
    {"multi_label": True, "thresholds": [0.2, 0.9]},
    {"multi_label": True, "curve": "PR", "summation_method": "minoring", "num_thresholds": 9},
]
THRESHOLDS: list[Options] = [
    {},
    {"thresholds": 0.3},
    {"thresholds": [0.9, 0.2, 0.2]},
    {"thresholds": [0.0, 0.5, 1.0]},
]
TOP_K: list[Options] = [
    {"top_k": 2},
    {"top_k": 1, "class_id": 3},
    {"top_k": 2, "thresholds": [0.1, 0.6]},
    {"top_k": 4},
]
AVERAGES = [None, "micro", "macro", "weighted"]
SHARES = ["share", "nan share", "positive"]
FOUR: Options = {"num_classes": 4}
DENSE: Options = {**FOUR, "sparse_y_pred": False}

MEANS = [
    Family("Accuracy", [{}], ["ids", "nan"], ["places"], WIDE),
    Family("BinaryAccuracy", [{}, {"threshold": 0.3}], [*SHARES, "raw"], ["binary", "shares"], WIDE),
    Family("CategoricalAccuracy", [{}], ["any", "nan"], ["one_hot", "binary", "shares"], FEW),
    Family("SparseCategoricalAccuracy", [{}], ["any", "nan"], ["ids"], FEW),
    Family("TopKCategoricalAccuracy", [{}, {"k": 2}, {"k": 1}], ["any", "nan"], ["one_hot", "binary"], FEW, dtypes=[np.float32]),
    Family("SparseTopKCategoricalAccuracy", [{}, {"k": 2}, {"k": 1}], ["any", "nan"], ["ids"], FEW, dtypes=[np.float32]),
    Family("SparseTopKCategoricalAccuracy", [{"k": 2, "from_sorted_ids": True}], ["ids"], ["ids"], FEW),
    Family("PearsonCorrelation", [{}, {"axis": 1}], ["any"], ["values"], FLAT),
    Family("PearsonCorrelation", [{"axis": 1}, {"axis": [1, 2]}, {"axis": -2}], ["wide"], ["values"], [(3, 4)], of_rows),
    Family("ConcordanceCorrelation", [{}, {"axis": 1}], ["any"], ["values"], FLAT),
    Family("ConcordanceCorrelation", [{"axis": 1}, {"axis": [1, 2]}], ["wide"], ["values"], [(3, 4)], of_rows),
    Family("CosineSimilarity", [{}], ["any", "nan"], ["values", "one_hot"], FEW),
    Family("CosineSimilarity", [{"axis": 1}], ["wide"], ["values"], [(3, 4)], of_rows),
    Family("MeanSquaredError", [{}], ["wide", "nan"], ["values", "binary"], WIDE),
    Family("MeanAbsoluteError", [{}], ["wide"], ["values", "binary"], WIDE),
    Family("MeanAbsolutePercentageError", [{}], ["wide"], ["values", "binary"], WIDE),
    Family("MeanSquaredLogarithmicError", [{}], ["wide"], ["values", "counts"], WIDE),
    Family("RootMeanSquaredError", [{}], ["wide", "nan"], ["values", "binary"], WIDE, of_elements),
    Family("LogCoshError", [{}], ["wide"], ["values"], WIDE),
    Family("KLDivergence", [{}], ["any"], ["shares", "one_hot"], FEW),
    Family("Poisson", [{}], ["positive"], ["counts"], WIDE),
    Family("BinaryCrossentropy", [{}, {"from_logits": True, "label_smoothing": 0.1}], ["any", "share"], ["binary", "shares"], WIDE),
    Family("CategoricalCrossentropy", [{}, {"from_logits": True, "label_smoothing": 0.1}], ["any"], ["one_hot"], FEW),
    Family("CategoricalCrossentropy", [{"axis": 1}, {"axis": 1, "from_logits": True}], ["any"], ["one_hot"], [(3, 4)], of_rows),
    Family("SparseCategoricalCrossentropy", [{}, {"from_logits": True}], ["any"], ["ids"], FEW),
    Family("SparseCategoricalCrossentropy", [{"ignore_class": 1}], ["any"], ["ids"], FEW, of_steps),
    Family("Hinge", [{}], ["wide"], ["binary", "signs"], WIDE),
    Family("SquaredHinge", [{}], ["wide"], ["binary", "signs"], WIDE),
    Family("CategoricalHinge", [{}], ["any"], ["one_hot", "signs"], FEW),
]  # fmt: skip
STATES = [
    Family("R2Score", [{}, {"class_aggregation": None}, {"class_aggregation": "variance_weighted_average"},
                       {"num_regressors": 2}, {"num_regressors": 500}],
           ["wide"], ["values", "binary"], [(1,), (4,)], of_elements),
    Family("AUC", AUC, SHARES, ["binary"], FLAT, of_elements),
    Family("AUC", [{}, {"thresholds": [0.7, 0.25]}], SHARES, ["binary", "places"], [(1,), (3, 4)], of_elements),
    Family("AUC", [{"from_logits": True}, {"from_logits": True, "thresholds": [0.7]}], ["raw"], ["binary"], WIDE, of_elements),
    Family("AUC", MULTI_LABEL, SHARES, ["binary"], FLAT, of_elements),
    *[Family(name, THRESHOLDS, SHARES, ["binary", "places"], WIDE, of_elements)
      for name in ["TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives", "Precision", "Recall"]],
    *[Family(name, [{"class_id": 1}, {"class_id": -2, "thresholds": 0.2}], SHARES, ["one_hot", "binary"], FEW, of_steps)
      for name in ["Precision", "Recall"]],
    *[Family(name, TOP_K, ["share", "any"], ["one_hot", "binary"], FEW, of_steps) for name in ["Precision", "Recall"]],
    *[Family(name, [{**options, bound: value} for options in AT for value in BOUNDS], SHARES, ["binary"], FLAT, of_steps, True)
      for name, bound in [("SensitivityAtSpecificity", "specificity"), ("SpecificityAtSensitivity", "sensitivity"),
                          ("PrecisionAtRecall", "recall"), ("RecallAtPrecision", "precision")]],
    Family("FBetaScore", [{"average": average, "beta": beta, "threshold": threshold}
                          for average, beta, threshold in product(AVERAGES, [2.0, 0.5], [None, 0.4])],
           ["any", "share", "nan"], ["one_hot", "binary"], FLAT, of_rows),
    Family("F1Score", [{"average": average} for average in AVERAGES], ["any", "share"], ["one_hot"], FLAT, of_rows),
    Family("F1Score", [{}, {"threshold": 0.5}], ["share"], ["binary"], [(1,)], of_rows),
    Family("IoU", [{**FOUR, "target_class_ids": [0, 2]}, {"num_classes": 3, "target_class_ids": [1], "ignore_class": 2}],
           ["ids"], ["places"], [(1,), (4,), (3, 2)], of_each, True),
    Family("IoU", [{**DENSE, "target_class_ids": [0, 0]}], ["any", "nan"], ["ids"], FEW, of_steps, True),
    Family("IoU", [{**DENSE, "target_class_ids": [3, 1], "sparse_y_true": False}], ["any"], ["one_hot"], FEW, of_steps, True),
    Family("MeanIoU", [{**FOUR}, {**FOUR, "ignore_class": -1}], ["ids"], ["places"], [(1,), (4,)], of_each, True),
    Family("MeanIoU", [{**DENSE, "ignore_class": 0}], ["any"], ["ids"], FEW, of_steps, True),
    Family("OneHotIoU", [{**FOUR, "target_class_ids": [1, 3]}], ["any", "nan"], ["one_hot"], FEW, of_steps, True),
    Family("OneHotMeanIoU", [{**FOUR}, {**FOUR, "ignore_class": 1}], ["any"], ["one_hot"], FEW, of_steps, True),
    Family("BinaryIoU", [{}, {"threshold": 0.3, "target_class_ids": [1]}], SHARES, ["binary"], WIDE, of_each, True),
]  # fmt: skip
# Functions that Keras takes as metrics and wraps.
FUNCTIONS: dict[str, tuple[str, str, Options]] = {
    "binary_accuracy": ("share", "binary", {"threshold": 0.4}),
    "categorical_accuracy": ("any", "one_hot", {}),
    "sparse_categorical_accuracy": ("any", "ids", {}),
    "top_k_categorical_accuracy": ("any", "one_hot", {"k": 2}),
    "sparse_top_k_categorical_accuracy": ("any", "ids", {"k": 2}),
    "mean_squared_error": ("wide", "values", {}),
    "huber": ("wide", "values", {"delta": 0.5}),
    "binary_crossentropy": ("wide", "binary", {"label_smoothing": 0.2}),
    "cosine_similarity": ("wide", "values", {}),
    "hinge": ("wide", "signs", {}),
}
# Those that compare no labels with outputs.
NOT_OF_OUTPUTS = {"Metric", "Mean", "Sum", "MeanMetricWrapper"}


def weights_of(family: Family, shape: Shape) -> Array | None:
    """Sample weights in one of their forms, or none; some are zero."""
    form = some([None, *family.weights(shape)])
    if form is None:
        return None
    if family.whole or RNG.uniform() < 0.3:
        return RNG.integers(0, 4, form).astype(some([np.float32, np.int32]))
    weights = RNG.uniform(0, 3, form) * (RNG.uniform(size=form) > 0.2)
    return weights.astype(some(FLOATS))


def case_of(family: Family, options: Options, label: str, shape: Shape, config=None) -> Case:
    """One of the cases that there can be: dtypes, outputs, weights, mask and batches by chance."""
    values, activations = OUTPUTS[some(family.outputs)]
    labels, dtypes = LABELS[label]
    dtype = some(family.dtypes)
    x, y_true = values(shape).astype(dtype), labels(shape).astype(some(dtypes))
    if config is None:
        given = dict(options)
        if RNG.uniform() < 0.4:
            given["dtype"] = some(["float32", "float64"])
        config = metric_object(family.name, **given)
    weights, mask = weights_of(family, shape), None
    # Keras multiplies mask and weights, so that they must have one shape.
    steps = (ROWS, *shape[:-1])
    if options.get("axis", -1) == -1 and (weights is None or weights.shape[: len(shape)] == steps):
        mask = some([None, RNG.uniform(size=steps) > 0.3])
    return Case(config, x, y_true, some(activations), weights, mask, some(PARTS))


def cases_of(families: list[Family]) -> list[Case]:
    """Several for each class with each of its arguments, kinds of labels and shapes."""
    cases = [
        case_of(family, options, label, shape)
        for family in families
        for options, label, shape in product(family.options, family.labels, family.shapes)
        for _ in range(DRAWS)
    ]
    return cases if os.environ.get("FLAMBEAU_PARITY") == "all" else cases[::3]


def function_cases() -> list[Case]:
    """Functions by themselves and in the wrapper that Keras makes of them."""
    cases = []
    for name, (output, label, options) in FUNCTIONS.items():
        wrapper = metric_object("MeanMetricWrapper", fn=function(name), name="wrapped", **options)
        for config, shape in product([function(name), wrapper], FEW):
            dtypes = [np.float32] if "top_k" in name else FLOATS
            family = Family(name, [options], [output], [label], [shape], dtypes=dtypes)
            cases.append(case_of(family, options, label, shape, config))
    return cases


def in_keras(case: Case) -> Array:
    """The result after an update for each batch."""
    metric = get_metric(from_config(case.config), tf.constant(case.y_true), tf.constant(case.x))
    start = 0
    for rows in case.parts:
        part = slice(start, start + rows)
        start += rows
        if rows > 0:
            weights = None if case.weights is None else tf.constant(case.weights[part])
            output = case.output(tf.constant(case.x[part]), part)
            metric.update_state(tf.constant(case.y_true[part]), output, weights)
    return np.asarray(metric.result())


def check(example, folder, cases: list[Case]) -> None:
    """Each result as in Keras; the same float32 where it comes of whole numbers."""
    scored = run(example, folder, [ask("metric", case) for case in cases])
    for case, score in zip(cases, scored, strict=True):
        name = case.config["class_name"]
        what = f"metric {case}, labels {case.y_true.dtype}"
        expected = in_keras(case)
        counts = name in COUNTS or ("Accuracy" in name and case.x.ndim == 2)
        if counts and (case.weights is None or np.all(case.weights == np.round(case.weights))):
            np.testing.assert_array_equal(np.float32(score["value"]), np.float32(expected), what)
        else:
            tolerance = RELATIVE.get(name, TOLERANCE)
            close(score["value"], expected, tolerance, what, 1 if name in AROUND_ONE else 1e-2)


def test_means_of_functions_are_those_of_keras(example, tmp_path):
    """Metrics that are the mean of a function."""
    check(example, tmp_path, cases_of(MEANS) + function_cases())


def test_metrics_with_states_of_their_own_are_those_of_keras(example, tmp_path):
    """Metrics that add up something else."""
    check(example, tmp_path, cases_of(STATES))


def test_every_metric_of_keras_is_tried():
    """None is forgotten."""
    classes = {name for name, value in vars(keras.metrics).items() if inspect.isclass(value)}
    assert {family.name for family in MEANS + STATES} == classes - NOT_OF_OUTPUTS
