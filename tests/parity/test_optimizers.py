"""Every optimizer class with every option moves variables and state as Keras does, step by step."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import optimizers
from keras.optimizers import schedules
from safetensors.numpy import load_file, save_file

STEPS = 30
# Gradients that are not finite.
INFINITE, NAN = STEPS, STEPS + 1
# Steps after which everything is compared, and the one from which runs are taken up again.
RECORD = [0, 1, 8, STEPS - 1]
RESUMED = 8
# A matrix's Newton and Schulz iteration amplifies rounding.
RELATIVE = {"Muon": 1e-4}

PATHS = {
    "wide/kernel": (5, 11),
    "wide/bias": (11,),
    "tall/kernel": (12, 4),
    "embedding/embeddings": (6, 5),
    "conv/kernel": (3, 2, 4, 3),
    "scale/scalar": (),
    "query/kernel": (2, 3, 4),
}
COSINE = schedules.CosineDecay(0.02, decay_steps=20, warmup_target=0.05, warmup_steps=6)
STAIRS = schedules.ExponentialDecay(0.05, decay_steps=7, decay_rate=0.6, staircase=True)


@dataclass
class Case:
    """An optimizer and the steps it takes."""

    optimizer: keras.Optimizer
    steps: list[int] = field(default_factory=lambda: list(range(STEPS)))
    sparse: bool = False
    threads: int = 1
    factor: float = 1.0

    def reached(self, step: int) -> list[bool]:
        """Which variables have a gradient; the last one never has one where some have none."""
        if not self.sparse:
            return [True] * len(PATHS)
        some = [(3 * step + 2 * index) % 7 < 5 for index in range(len(PATHS))]
        return [*some[:-1], False]

    def inner(self) -> keras.Optimizer:
        """The optimizer without loss scaling around it."""
        return getattr(self.optimizer, "inner_optimizer", self.optimizer)


CLASSES = {
    optimizers.SGD: [
        {},
        {"momentum": 0.9},
        {"momentum": 0.8, "nesterov": True},
        {"learning_rate": COSINE},
        {"learning_rate": STAIRS, "momentum": 0.5},
    ],
    optimizers.RMSprop: [
        {},
        {"rho": 0.7, "momentum": 0.6},
        {"centered": True, "epsilon": 1e-3},
        {"centered": True, "momentum": 0.5, "epsilon": 1e-3},
    ],
    optimizers.Adam: [
        {},
        {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3},
        {"amsgrad": True},
        {"learning_rate": COSINE, "amsgrad": True},
    ],
    optimizers.AdamW: [{}, {"weight_decay": 0.1, "amsgrad": True}, {"weight_decay": 0.0}],
    optimizers.Adadelta: [{}, {"learning_rate": 1.0, "rho": 0.8, "epsilon": 1e-4}],
    optimizers.Adagrad: [{}, {"initial_accumulator_value": 0.0, "epsilon": 1e-3}],
    optimizers.Adamax: [{}, {"beta_1": 0.7, "beta_2": 0.9, "epsilon": 1e-2}],
    optimizers.Adafactor: [
        {},
        {"relative_step": False, "clip_threshold": 0.3},
        {"beta_2_decay": -0.5, "epsilon_1": 1e-3, "epsilon_2": 0.1, "learning_rate": COSINE},
    ],
    optimizers.Nadam: [{}, {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}],
    optimizers.Ftrl: [
        {},
        {
            "l1_regularization_strength": 0.05,
            "l2_regularization_strength": 0.1,
            "l2_shrinkage_regularization_strength": 0.2,
            "beta": 0.3,
        },
        {"learning_rate_power": -0.7, "initial_accumulator_value": 0.5},
        {"learning_rate_power": 0.0},
    ],
    optimizers.Lion: [{}, {"beta_1": 0.6, "beta_2": 0.7}],
    optimizers.Lamb: [{}, {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}],
    optimizers.Muon: [
        {},
        {"nesterov": False, "momentum": 0.8, "rms_rate": None, "adam_weight_decay": None},
        {"exclude_layers": ["^tall", "q.*y"], "exclude_embeddings": False, "weight_decay": None},
        {"ns_steps": 2, "muon_a": 3.0, "muon_b": -4.0, "muon_c": 2.0, "adam_lr_ratio": 0.3},
    ],
    optimizers.ScheduleFreeAdamW: [{}, {"warmup_steps": 10, "beta_1": 0.7, "epsilon": 1e-3}],
}
OPTIONS = [
    {"weight_decay": 0.05},
    {"clipnorm": 0.7},
    {"global_clipnorm": 1.5},
    {"clipvalue": 0.3},
    {"use_ema": True, "ema_momentum": 0.8},
    {"use_ema": True, "ema_momentum": 0.7, "ema_overwrite_frequency": 4},
    {"gradient_accumulation_steps": 4},
    {"loss_scale_factor": 3.0, "global_clipnorm": 0.0},
    {"gradient_accumulation_steps": 3, "clipnorm": 0.5, "weight_decay": 0.02},
    {
        "gradient_accumulation_steps": 2,
        "global_clipnorm": 2.0,
        "use_ema": True,
        "ema_overwrite_frequency": 3,
        "loss_scale_factor": 128.0,
        "weight_decay": 0.01,
    },
]


SCHEDULES = [
    schedules.ExponentialDecay(0.1, decay_steps=30, decay_rate=0.7),
    schedules.ExponentialDecay(0.1, decay_steps=30, decay_rate=0.7, staircase=True),
    schedules.PiecewiseConstantDecay([0, 20, 90], [1.0, 0.5, 0.3, 0.1]),
    schedules.PiecewiseConstantDecay([7], [1.0, 0.3]),
    schedules.PolynomialDecay(0.2, decay_steps=150),
    schedules.PolynomialDecay(0.2, 37, end_learning_rate=0.01, power=0.5),
    schedules.PolynomialDecay(0.2, 37, end_learning_rate=0.01, power=2.0, cycle=True),
    schedules.InverseTimeDecay(0.3, decay_steps=11, decay_rate=0.5),
    schedules.InverseTimeDecay(0.3, decay_steps=11, decay_rate=0.5, staircase=True),
    schedules.CosineDecay(0.1, decay_steps=120),
    schedules.CosineDecay(0.0, 90, alpha=0.1, warmup_target=0.2, warmup_steps=25),
    schedules.CosineDecay(0.1, 90, alpha=0.1, warmup_target=0.2, warmup_steps=0),
    schedules.CosineDecayRestarts(0.1, first_decay_steps=17),
    schedules.CosineDecayRestarts(0.1, 23, t_mul=1.0, m_mul=0.9, alpha=0.01),
    schedules.CosineDecayRestarts(0.1, 10, t_mul=1.5, m_mul=0.8, alpha=0.05),
]
ITERATIONS = [*range(300), 1000, 54321, 10**7]


def cases() -> list[Case]:
    """Each class with its own options, with those of all, and inside loss scaling."""
    found = []
    for index, (kind, settings) in enumerate(CLASSES.items()):
        rate = {"learning_rate": 0.02}
        found += [Case(kind(**setting), sparse=True) for setting in settings]
        for at, options in enumerate(OPTIONS):
            own = settings[at % len(settings)]
            case = Case(kind(**{**rate, **own, **options}), sparse=at % 2 == 1, threads=1 + at % 3)
            found.append(case)
        inner = kind(**rate, **(OPTIONS[index % len(OPTIONS)] | {"loss_scale_factor": None}))
        scaled = optimizers.LossScaleOptimizer(inner, initial_scale=8.0, dynamic_growth_steps=3)
        overflowing = [0, INFINITE, *range(1, 7), NAN, *range(7, STEPS)]
        found.append(Case(scaled, overflowing, sparse=index % 2 == 0))
    found.append(Case(optimizers.Adam(0.02, clipnorm=0.5), factor=0.25))
    found.append(Case(optimizers.Lamb(0.02, gradient_accumulation_steps=2), factor=0.25))
    # The same cases in every run: those left out are compared by `make parity`.
    return found if os.environ.get("FLAMBEAU_PARITY") == "all" else found[::3]


def first_values() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.normal(size=shape).astype(np.float32) for shape in PATHS.values()]


def gradients(step: int) -> list[np.ndarray]:
    rng = np.random.default_rng(100 + step)
    scale = np.float32(10.0 ** (step % 3 - 1))
    found = [scale * rng.normal(size=shape).astype(np.float32) for shape in PATHS.values()]
    if step in (INFINITE, NAN):
        found[0][1, 2] = np.inf if step == INFINITE else np.nan
    return found


def keras_variables(values: list[np.ndarray]) -> list[keras.Variable]:
    """Variables with the paths that layers would give them."""
    variables = []
    for path, value in zip(PATHS, values, strict=True):
        layer, name = path.split("/")
        with keras.name_scope(layer):
            variables.append(keras.Variable(value, name=name))
        assert variables[-1].path == path
    return variables


@dataclass
class Ran:
    """What Keras makes of a case: at recorded steps, variables and optimizer.variables."""

    case: Case
    config: dict
    recorded: dict[int, tuple[list[np.ndarray], list[np.ndarray]]]
    final: list[np.ndarray]


def arrays(variables: list[keras.Variable]) -> list[np.ndarray]:
    return [np.asarray(variable.numpy()) for variable in variables]


def run_keras(case: Case) -> Ran:
    variables = keras_variables(first_values())
    case.optimizer.build(variables)
    config = keras.saving.serialize_keras_object(case.optimizer)
    recorded = {}
    for step in case.steps:
        present = zip(gradients(step), case.reached(step), strict=True)
        factor = np.float32(case.factor)
        given = [tf.constant(factor * g) if reached else None for g, reached in present]
        case.optimizer.apply(given, variables)
        if step in RECORD:
            recorded[step] = (arrays(variables), arrays(case.optimizer.variables))
    case.optimizer.finalize_variable_values(variables)
    return Ran(case, config, recorded, arrays(variables))


def described(ran: Ran, steps: list[int], **more: object) -> dict:
    return {
        "optimizer": ran.config,
        "steps": steps,
        "record": RECORD,
        "reached": [ran.case.reached(step) for step in steps],
        "threads": ran.case.threads,
        "factor": ran.case.factor,
        **more,
    }


@pytest.fixture(scope="module")
def ran() -> list[Ran]:
    with warnings.catch_warnings():
        # At each step in which a variable has no gradient.
        warnings.filterwarnings("ignore", message="Gradients do not exist")
        return [run_keras(case) for case in cases()]


@pytest.fixture(scope="module")
def folder(example, ran, tmp_path_factory) -> Path:
    """The example's results: of all cases, of the same from Keras's state on, of schedules."""
    folder: Path = tmp_path_factory.mktemp("optimizers")
    tensors = {str(index): value for index, value in enumerate(first_values())}
    for step in (*range(STEPS), INFINITE, NAN):
        for index, value in enumerate(gradients(step)):
            tensors[f"gradient/{step}/{index}"] = value
    written = [described(entry, entry.case.steps) for entry in ran]
    for at, entry in enumerate(ran, start=len(ran)):
        values, saved = entry.recorded[RESUMED]
        for prefix, found in ((f"start/{at}", values), (f"saved/{at}", saved)):
            tensors |= {f"{prefix}/{index}": value for index, value in enumerate(found)}
        rest = entry.case.steps[entry.case.steps.index(RESUMED) + 1 :]
        written.append(described(entry, rest, saved=len(saved)))
    for schedule in SCHEDULES:
        config = keras.saving.serialize_keras_object(optimizers.SGD(schedule, name="sgd"))
        written.append({"optimizer": config, "rates": ITERATIONS})
    tensors = {name: np.asarray(value) for name, value in tensors.items()}
    save_file(tensors, folder / "tensors.safetensors")
    document = {"variables": list(PATHS), "cases": written}
    (folder / "cases.json").write_text(json.dumps(document))
    example("optimize", folder)
    return folder


@pytest.fixture(scope="module")
def results(folder) -> dict[str, np.ndarray]:
    return load_file(folder / "results.safetensors")


def assert_near(actual: dict, prefix: str, expected: list[np.ndarray], case: Case) -> None:
    """Each array differs by little of its own greatest value."""
    relative = RELATIVE.get(type(case.inner()).__name__, 1e-5)
    for index, value in enumerate(expected):
        found = actual[f"{prefix}/{index}"]
        what = f"{prefix}/{index} of {keras.saving.serialize_keras_object(case.optimizer)}"
        assert (found.shape, found.dtype) == (value.shape, value.dtype), what
        limit = relative * np.abs(value).max(initial=1e-30)
        np.testing.assert_allclose(found, value, rtol=0, atol=limit, err_msg=what)


def test_variables_and_state_are_those_of_keras(ran, results):
    for index, entry in enumerate(ran):
        for step, (values, state) in entry.recorded.items():
            assert_near(results, f"{index}/{step}", values, entry.case)
            assert_near(results, f"{index}/{step}/optimizer", state, entry.case)
            assert f"{index}/{step}/optimizer/{len(state)}" not in results
        assert_near(results, f"{index}/final", entry.final, entry.case)


def loses_state(optimizer: optimizers.Optimizer) -> bool:
    """Whether Keras's own list lacks state: Nadam's product, where loss scaling built it."""
    inner = getattr(optimizer, "inner_optimizer", None)
    return isinstance(inner, optimizers.Nadam)


def test_runs_continue_from_keras_own_optimizer_variables(ran, results):
    for index, entry in enumerate(ran, start=len(ran)):
        if loses_state(entry.case.optimizer):
            continue
        later = [step for step in entry.recorded if step > RESUMED]
        assert later
        for step in later:
            values, state = entry.recorded[step]
            assert_near(results, f"{index}/{step}", values, entry.case)
            assert_near(results, f"{index}/{step}/optimizer", state, entry.case)
        assert_near(results, f"{index}/final", entry.final, entry.case)


def test_configs_are_those_that_keras_writes(ran, folder):
    configs = json.loads((folder / "configs.json").read_text())
    schedule_configs = [
        keras.saving.serialize_keras_object(optimizers.SGD(schedule, name="sgd"))
        for schedule in SCHEDULES
    ]
    expected = [entry.config for entry in (*ran, *ran)] + schedule_configs
    for config, wanted in zip(configs, expected, strict=True):
        assert config == wanted


def test_schedules_follow_keras_over_hundreds_of_iterations(ran, results):
    for at, schedule in enumerate(SCHEDULES, start=2 * len(ran)):
        call = tf.function(schedule, input_signature=[tf.TensorSpec((), tf.int64)])
        expected = np.array([call(tf.constant(i, tf.int64)) for i in ITERATIONS], np.float32)
        what = str(keras.saving.serialize_keras_object(schedule))
        # A power's relative error is that of its exponent, which float32 rounds, times a logarithm;
        # where a cosine nears -1, adding 1 leaves its absolute error, and a restart takes the whole
        # periods off a rounded quotient (here up to 8.7).
        limits = {"rtol": 3e-6, "atol": 1e-6 * expected.max()}
        np.testing.assert_allclose(results[f"{at}/rates"], expected, **limits, err_msg=what)
