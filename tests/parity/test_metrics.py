"""Every metric of Keras, weighted and masked, over several batches."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import tensorflow as tf
from keras.src.trainers.compile_utils import get_metric
from scoring import (
    PARTS,
    ROWS,
    Case,
    ask,
    close,
    from_config,
    metric_object,
    run,
)

RNG = np.random.default_rng(5)
# Rounding of results, and of Keras's sums, in the metric's precision.
TOLERANCE = {False: 3e-6, True: 1e-11}


def some(choices: list):
    """One of them."""
    return choices[RNG.integers(len(choices))]


def one_hot(shape) -> np.ndarray:
    return np.eye(shape[-1])[RNG.integers(0, shape[-1], (ROWS, *shape[:-1]))]


LABELS = {
    "values": lambda shape: RNG.normal(size=(ROWS, *shape)) + 1,
    "shares": lambda shape: RNG.uniform(size=(ROWS, *shape)),
    "binary": lambda shape: RNG.integers(0, 2, (ROWS, *shape)),
    "signs": lambda shape: RNG.integers(0, 2, (ROWS, *shape)) * 2 - 1,
    "mixed": lambda shape: RNG.integers(0, 3, (ROWS, *shape)) - 1,
    "one_hot": one_hot,
    "ids": lambda shape: RNG.integers(0, shape[-1], (ROWS, *shape[:-1])),
    "own": lambda shape: RNG.integers(0, 4, (ROWS, *shape)),
}
FEW = [(4,), (3, 4)]
WIDE = [(1,), (4,), (3, 4)]
BOTH = [None, "softmax", "sigmoid"]
AT = [{}, {"num_thresholds": 1}, {"num_thresholds": 7}, {"class_id": 2}]
CURVES = [
    {"curve": curve, "summation_method": summation, "num_thresholds": thresholds}
    for curve, summation, thresholds in product(
        ["ROC", "PR", "PRGAIN"], ["interpolation", "majoring", "minoring"], [200, 5]
    )
]
CURVE_OPTIONS = [
    {"thresholds": [0.7, 0.25, 0.3]},
    {"thresholds": [0.25, 0.5, 0.75]},
    {"from_logits": True},
    {"label_weights": [0.5, 1.0, 2.0, 0.0]},
]
MULTI_LABEL = [
    {"multi_label": True},
    {"multi_label": True, "num_labels": 4, "label_weights": [0.5, 1.0, 2.0, 0.0]},
    {"multi_label": True, "curve": "PR"},
    {"multi_label": True, "thresholds": [0.2, 0.9]},
]
THRESHOLDS = [
    {},
    {"thresholds": 0.3},
    {"thresholds": [0.9, 0.2, 0.2]},
    {"thresholds": [0.0, 0.5, 1.0]},
]
RESTRICTED = [
    {"class_id": 1},
    {"top_k": 2},
    {"top_k": 1, "class_id": 3},
    {"top_k": 2, "thresholds": [0.1, 0.6]},
]
AVERAGES = [None, "micro", "macro", "weighted"]

# Class, arguments, activations, kinds of labels, shapes.
MEANS = [
    ("Accuracy", [{}], ["whole"], ["own"], WIDE),
    ("BinaryAccuracy", [{}, {"threshold": 0.3}], BOTH, ["binary", "shares"], WIDE),
    ("CategoricalAccuracy", [{}], BOTH, ["one_hot", "binary"], FEW),
    ("SparseCategoricalAccuracy", [{}], BOTH, ["ids"], FEW),
    ("TopKCategoricalAccuracy", [{}, {"k": 2}], BOTH, ["one_hot"], FEW),
    ("SparseTopKCategoricalAccuracy", [{"k": 2}, {"k": 1}], BOTH, ["ids"], FEW),
    ("SparseTopKCategoricalAccuracy", [{"k": 2, "from_sorted_ids": True}], ["whole"], ["ids"], FEW),
    ("PearsonCorrelation", [{}, {"axis": 1}], BOTH, ["values"], [(4,)]),
    ("PearsonCorrelation", [{"axis": 1}, {"axis": [1, 2]}], [None], ["values"], [(3, 4)]),
    ("ConcordanceCorrelation", [{}], BOTH, ["values"], FEW),
    ("CosineSimilarity", [{}], BOTH, ["values"], FEW),
    ("CosineSimilarity", [{"axis": 1}], [None], ["values"], [(3, 4)]),
    ("MeanSquaredError", [{}], [None, "sigmoid"], ["values"], WIDE),
    ("MeanAbsoluteError", [{}], [None, "sigmoid"], ["values"], WIDE),
    ("MeanAbsolutePercentageError", [{}], [None], ["values"], WIDE),
    ("MeanSquaredLogarithmicError", [{}], ["sigmoid"], ["values"], WIDE),
    ("RootMeanSquaredError", [{}], [None, "sigmoid"], ["values"], WIDE),
    ("LogCoshError", [{}], [None, "sigmoid"], ["values"], WIDE),
    ("KLDivergence", [{}], BOTH, ["shares"], FEW),
    ("Poisson", [{}], ["sigmoid"], ["own"], WIDE),
    ("BinaryCrossentropy", [{}, {"from_logits": True, "label_smoothing": 0.1}], BOTH, ["binary"], FEW),
    ("BinaryCrossentropy", [{}], [None, "sigmoid"], ["binary"], [(1,)]),
    ("CategoricalCrossentropy", [{}, {"from_logits": True, "label_smoothing": 0.1}], BOTH, ["one_hot"], FEW),
    ("SparseCategoricalCrossentropy", [{}, {"from_logits": True}, {"ignore_class": 1}], BOTH, ["ids"], FEW),
    ("Hinge", [{}], [None, "sigmoid"], ["binary", "signs"], WIDE),
    ("SquaredHinge", [{}], [None, "sigmoid"], ["binary", "signs"], WIDE),
    ("CategoricalHinge", [{}], BOTH, ["one_hot", "signs"], FEW),
]  # fmt: skip
STATES = [
    ("R2Score", [{}, {"class_aggregation": None}, {"class_aggregation": "variance_weighted_average"}, {"num_regressors": 2}, {"num_regressors": 500}],
     [None, "sigmoid"], ["values"], [(1,), (4,)]),
    ("AUC", CURVES, [None, "sigmoid", "softmax"], ["binary"], [(4,)]),
    ("AUC", [{}, {"from_logits": True}], [None, "sigmoid"], ["binary"], [(1,), (3, 4)]),
    ("AUC", CURVE_OPTIONS + MULTI_LABEL, [None, "sigmoid"], ["binary"], [(4,)]),
    *[(name, THRESHOLDS, [None, "sigmoid"], ["binary"], WIDE)
      for name in ["TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives"]],
    *[(name, THRESHOLDS, [None, "sigmoid"], ["binary"], WIDE) for name in ["Precision", "Recall"]],
    *[(name, RESTRICTED, BOTH, ["one_hot", "binary"], [(4,), (3, 4)]) for name in ["Precision", "Recall"]],
    *[(name, [{**options, bound: value} for options in AT for value in [0.0, 0.5, 0.8]],
       [None, "sigmoid"], ["binary"], [(4,)])
      for name, bound in [("SensitivityAtSpecificity", "specificity"), ("SpecificityAtSensitivity", "sensitivity"),
                          ("PrecisionAtRecall", "recall"), ("RecallAtPrecision", "precision")]],
    ("FBetaScore", [{"average": average, "beta": 2.0, "threshold": threshold} for average in AVERAGES for threshold in [None, 0.4]],
     BOTH, ["one_hot", "binary"], [(4,)]),
    ("F1Score", [{"average": average} for average in AVERAGES], BOTH, ["one_hot"], [(4,)]),
    ("F1Score", [{}, {"threshold": 0.5}], [None, "sigmoid"], ["binary"], [(1,)]),
    ("IoU", [{"num_classes": 4, "target_class_ids": [0, 2]}, {"num_classes": 3, "target_class_ids": [1], "ignore_class": 2}],
     ["whole"], ["own"], [(1,), (4,), (3, 2)]),
    ("IoU", [{"num_classes": 4, "target_class_ids": [0], "sparse_y_pred": False}], BOTH, ["ids"], FEW),
    ("IoU", [{"num_classes": 4, "target_class_ids": [0], "sparse_y_pred": False, "sparse_y_true": False}], BOTH, ["one_hot"], FEW),
    ("MeanIoU", [{"num_classes": 4}], ["whole"], ["own"], [(1,), (4,)]),
    ("MeanIoU", [{"num_classes": 4, "sparse_y_pred": False, "ignore_class": 0}], BOTH, ["ids"], FEW),
    ("OneHotIoU", [{"num_classes": 4, "target_class_ids": [1, 3]}], BOTH, ["one_hot"], FEW),
    ("OneHotMeanIoU", [{"num_classes": 4}, {"num_classes": 4, "ignore_class": 1}], BOTH, ["one_hot"], FEW),
    ("BinaryIoU", [{}, {"threshold": 0.3, "target_class_ids": [1]}], [None, "sigmoid"], ["binary"], WIDE),
]  # fmt: skip


def scores(shape, activation, probabilities: bool) -> list[np.ndarray]:
    """Values before an activation, with ties and extremes; or probabilities, some 0, 1 or NaN."""
    normal = RNG.normal(size=(ROWS, *shape))
    if activation == "whole":
        return [RNG.integers(-1, 5, (ROWS, *shape)).astype(float)]
    if activation is not None:
        return [normal, normal * 10]
    uniform = RNG.uniform(size=(ROWS, *shape))
    if probabilities:
        odd = np.where(uniform < 0.1, np.nan, np.where(uniform > 0.9, 2.0, uniform))
        return [uniform, np.round(uniform, 1), np.round(uniform), odd]
    return [normal, np.round(normal), normal * 60]


def weighted(shape, weigh: str) -> list[np.ndarray | None]:
    """The forms of sample weights that Keras takes."""
    rows = RNG.uniform(0, 3, ROWS) * (RNG.uniform(size=ROWS) > 0.2)
    steps = RNG.uniform(0, 3, (ROWS, *shape[:-1]))
    if weigh == "elements":
        return [None, RNG.integers(0, 3, (ROWS, *shape)).astype(float)]
    if len(shape) > 1:
        return [None, steps]
    return [None, rows] if weigh == "rows" else [None, rows, rows[:, None]]


def cases_of(families, masked: bool) -> list[Case]:
    cases = []
    for name, arguments, activations, labels, shapes in families:
        for options, activation, label, shape in product(arguments, activations, labels, shapes):
            iou = "IoU" in name
            probabilities = name in ("AUC", "Precision", "Recall", "F1Score") or "At" in name
            for x in scores(shape, activation, probabilities):
                # NaN in the scores of top-k sorts differently, and F-scores of it are NaN.
                if np.isnan(x).any() and (name == "F1Score" or "top_k" in options):
                    x = np.nan_to_num(x)
                config = dict(options)
                if RNG.uniform() < 0.7:
                    config["dtype"] = "float64"
                whole = activation == "whole"
                weigh = "rows" if name == "FBetaScore" or name == "F1Score" else "any"
                weights, mask = some(weighted(shape, "elements" if iou and whole else weigh)), None
                if iou and not whole:
                    weights = (
                        None if label == "binary" else some([None, np.ones((ROWS, *shape[:-1]))])
                    )
                if (
                    masked
                    and options.get("axis", -1) == -1
                    and (weights is None or weights.ndim >= len(shape))
                ):
                    mask = some([None, RNG.uniform(size=(ROWS, *shape[:-1])) > 0.3])
                if name == "RootMeanSquaredError" and len(shape) > 1:
                    weights = None if weights is None else weights[..., None]
                if (
                    name in ("CategoricalAccuracy",)
                    and weights is not None
                    and weights.ndim > len(shape)
                ):
                    weights = weights[..., 0]
                y_true = LABELS[label](shape)
                y_true = y_true if label in ("ids", "own") else y_true.astype(x.dtype)
                if label == "own" and not iou:
                    y_true = y_true.astype(x.dtype)
                single = "dtype" not in config
                x_typed = x.astype(np.float32) if single or RNG.uniform() < 0.2 else x
                if single and y_true.dtype == np.float64:
                    y_true = y_true.astype(np.float32)
                case = (metric_object(name, **config), x_typed, y_true)
                activation_ = None if whole else activation
                cases.append(Case(*case, activation_, weights, mask, some(PARTS)))
    return cases


def in_keras(case: Case) -> np.ndarray:
    """The result after an update for each batch."""
    x = tf.constant(case.x)
    metric = get_metric(from_config(case.config), tf.constant(case.y_true), x)
    start = 0
    for rows in case.parts:
        part = slice(start, start + rows)
        start += rows
        if rows > 0:
            weights = None if case.weights is None else tf.constant(case.weights[part])
            y_true = tf.constant(case.y_true[part])
            metric.update_state(y_true, case.output(x[part], part), weights)
    return np.asarray(metric.result())


def tolerance(case: Case) -> float:
    """That of the precision in which Keras adds up; IoU's results are float32."""
    config = json.dumps(case.config)
    double = case.x.dtype == np.float64 and "float64" in config and "IoU" not in config
    return TOLERANCE[double]


def check(example, folder, cases: list[Case]) -> None:
    scored = run(example, folder, [ask("metric", case) for case in cases])
    for case, score in zip(cases, scored, strict=True):
        close(score["value"], in_keras(case), tolerance(case), f"metric {case}")


def test_means_of_functions_are_those_of_keras(example, tmp_path):
    check(example, tmp_path, cases_of(MEANS, masked=True))


def test_metrics_with_states_of_their_own_are_those_of_keras(example, tmp_path):
    check(example, tmp_path, cases_of(STATES, masked=True))
