"""Normalization layers against TensorFlow."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers as L
from operations import functional
from oracle import Cases, sequential
from refusal import Refusals, change

IMAGE = (5, 4, 6)
CASES = Cases()
ran = CASES.fixture()
REFUSALS = Refusals()
messages = REFUSALS.fixture()

# Halves of 11 bits and brain floats of 8, and a few roundings.
HALF = {"mixed_float16": 1e-2, "mixed_bfloat16": 6e-2}
# A normalization's gradient is a small difference of large sums.
TOLERANCE = 5e-5


def back_to_float32() -> keras.Layer:
    """Ends a model of mixed precision, for NumPy has no bfloat16."""
    return L.Activation("linear", dtype="float32")


def padded(low: float = -2.0) -> callable:
    """Sequences that end early, for a Masking at 0 before the layer."""

    def make(model: keras.Model) -> list[np.ndarray]:
        shape = [5 if size is None else size for size in model.inputs[0].shape[1:]]
        x = np.random.default_rng(4).uniform(low, 2, (5, *shape)).astype("float32")
        for row in range(4):
            x[row, 1 + row :] = 0
        return [x]

    return make


# BatchNormalization

BATCH = {
    "default": {},
    "momentum_epsilon": {"momentum": 0.6, "epsilon": 0.1},
    "no_scale": {"scale": False},
    "no_center": {"center": False},
    "neither": {"scale": False, "center": False},
    "frozen": {"trainable": False},
}
RENORM = {
    "renorm": {},
    "bounded": {"renorm_clipping": {"rmax": 1.2, "rmin": 0.8, "dmax": 0.3}},
    "bounded_below": {"renorm_clipping": {"rmin": 0.9}, "renorm_momentum": 0.7},
    "no_scale": {"scale": False},
    "neither": {"scale": False, "center": False, "momentum": 0.5, "epsilon": 0.1},
    "frozen": {"trainable": False},
}
BATCH |= {f"renorm-{name}": {"renorm": True} | options for name, options in RENORM.items()}
for name, options in BATCH.items():
    for shape in [(6,), (3, 6), IMAGE, (None, 6), (2, 3, 2, 4)]:
        # No bias before it: its gradient would be zero but for rounding.
        CASES.add(
            f"batch-{name}-{shape}",
            lambda o=options, s=shape: sequential(
                s, L.Dense(4, use_bias=False), L.BatchNormalization(**o), L.Dense(2)
            ),
            tolerance=TOLERANCE,
        )
    CASES.add(
        f"batch-{name}-masked",
        lambda o=options: sequential(
            (4, 6), L.Masking(), L.Dense(4, use_bias=False), L.BatchNormalization(**o), L.Dense(2)
        ),
        inputs=padded(),
        tolerance=TOLERANCE,
    )
for axis in [1, 2, 3, -2, -3]:
    for renorm in [False, True]:
        CASES.add(
            f"batch-axis{axis}-{renorm}",
            lambda a=axis, r=renorm: sequential(
                (3, 4, 5), L.BatchNormalization(axis=a, renorm=r), L.Dense(2)
            ),
            tolerance=TOLERANCE,
        )
CASES.add(
    "batch-a_single_row",
    lambda: sequential((6,), L.BatchNormalization()),
    inputs=lambda _: [np.ones((1, 6), dtype="float32")],
)
CASES.add(
    "batch-masked_images",
    lambda: sequential((3, 4, 5), L.Masking(), L.BatchNormalization(momentum=0.5), L.Dense(2)),
    inputs=padded(),
    tolerance=TOLERANCE,
)
CASES.add(
    "batch-nothing_valid",
    lambda: sequential((4, 3), L.Masking(), L.BatchNormalization(momentum=0.5)),
    inputs=lambda _: [np.zeros((3, 4, 3), "float32")],
    tolerance=TOLERANCE,
)
for policy, tolerance in HALF.items():
    for renorm in [False, True]:
        CASES.add(
            f"batch-{policy}-{renorm}",
            lambda p=policy, r=renorm: sequential(
                IMAGE, L.BatchNormalization(dtype=p, renorm=r), back_to_float32()
            ),
            tolerance=tolerance,
        )


def explicit_mask() -> keras.Model:
    """A mask as an argument."""
    x, mask = keras.Input((4, 6)), keras.Input((4,), dtype="bool")
    return keras.Model([x, mask], L.Dense(2)(L.BatchNormalization()(x, mask=mask)))


def shared_statistics() -> keras.Model:
    """Called at two depths: the order in which the statistics move shows."""
    a, b = keras.Input((6,)), keras.Input((6,))
    shared = L.BatchNormalization(momentum=0.5)
    deep = shared(L.Dense(6, use_bias=False)(L.Dense(6)(a)))
    return keras.Model([a, b], [L.Add()([deep, shared(b)]), shared(a)])


def inference_call() -> keras.Model:
    """Told not to train."""
    x = keras.Input((6,))
    return keras.Model(x, L.BatchNormalization()(x, training=False))


for options in [{}, {"renorm": True}, {"axis": 1, "momentum": 0.5}]:
    CASES.add(
        f"batch-synchronized-{options}",
        lambda o=options: sequential((4, 6), L.BatchNormalization(synchronized=True, **o)),
        tolerance=TOLERANCE,
    )
CASES.add("batch-explicit_mask", explicit_mask, tolerance=TOLERANCE)
CASES.add("batch-shared", shared_statistics, tolerance=TOLERANCE)
CASES.add("batch-told_not_to_train", inference_call, tolerance=TOLERANCE)

REFUSALS.add(
    "batch-renorm_initializer",
    lambda: sequential(
        (6,),
        L.BatchNormalization(renorm=True, moving_variance_initializer="random_normal", name="b"),
    ),
    'layer "b" (BatchNormalization)',
    "moving_variance_initializer",
)
REFUSALS.add(
    "batch-unknown_width",
    lambda: sequential((4, 6), L.BatchNormalization(axis=1, name="b")),
    'layer "b" (BatchNormalization)',
    "size of axis 1",
    edit=lambda document: document["config"]["layers"][0]["config"].update(
        batch_shape=[None, None, 6]
    ),
)

# LayerNormalization

LAYER = {
    "default": {},
    "epsilon": {"epsilon": 0.3},
    "epsilon_of_keras": {"epsilon": None},
    "no_scale": {"scale": False},
    "no_center": {"center": False},
    "neither": {"scale": False, "center": False},
}
for name, options in LAYER.items():
    for shape in [(6,), (3, 6), (None, 6), IMAGE]:
        CASES.add(
            f"layer-{name}-{shape}",
            lambda o=options, s=shape: sequential(
                s, L.Dense(5), L.LayerNormalization(**o), L.Dense(2)
            ),
            tolerance=TOLERANCE,
        )
for axis in [1, 2, -2, [1], [-1], [1, 2], [2, 1], [1, 3], [-1, -2], [-1, 1], [1, 2, 3], [3, -2]]:
    for scaled in [False, True]:
        CASES.add(
            f"layer-axis{axis}-{scaled}",
            lambda a=axis, s=scaled: sequential(
                (3, 4, 5), L.LayerNormalization(axis=a, scale=s, center=s), L.Dense(2)
            ),
            tolerance=TOLERANCE,
        )
for axis in [-1, 1, [1, 2], [1, 3]]:
    for scale in [False, True]:
        CASES.add(
            f"layer-rms_scaling-{axis}-{scale}",
            lambda a=axis, s=scale: sequential(
                (3, 4, 5), L.LayerNormalization(axis=a, rms_scaling=True, scale=s), L.Dense(2)
            ),
            tolerance=TOLERANCE,
        )
CASES.add(
    "layer-masked",
    lambda: sequential((4, 6), L.Masking(), L.LayerNormalization()),
    inputs=padded(),
    tolerance=TOLERANCE,
)
CASES.add(
    "layer-integers",
    lambda: sequential((3, 6), L.LayerNormalization(), dtype="int32"),
    inputs=lambda _: [np.random.default_rng(4).integers(-9, 9, (5, 3, 6)).astype("int32")],
)
for policy, tolerance in HALF.items():
    # A float32 input is not cast before: an offset would swallow half of its bits.
    CASES.add(
        f"layer-{policy}",
        lambda p=policy: sequential(
            (3, 6), L.Dense(5), L.Rescaling(1.0, 100.0), L.LayerNormalization(dtype=p),
            back_to_float32(),
        ),
        tolerance=tolerance,
    )  # fmt: skip
    CASES.add(
        f"layer-after_{policy}",
        lambda p=policy: sequential(
            (3, 6), L.Dense(5, dtype=p), L.LayerNormalization(dtype=p), back_to_float32()
        ),
        tolerance=tolerance,
    )
REFUSALS.add(
    "moments-of-rows",
    lambda: functional(
        lambda x: list(keras.ops.moments(x, axes=[1], synchronized=True)), ((6,), "float32")
    ),
    "Moments",
    "synchronized = true",
    "axes with that of the batch",
)
REFUSALS.add(
    "layer-twice",
    lambda: sequential((3, 6), L.LayerNormalization(name="n")),
    'layer "n" (LayerNormalization)',
    "twice",
    edit=change("LayerNormalization", axis=[2, -1]),
)

# GroupNormalization

for groups in [-1, 1, 2, 3, 6]:
    for shape in [(6,), (3, 6), (None, 6), IMAGE, (2, 3, 2, 6)]:
        CASES.add(
            f"group-{groups}-{shape}",
            lambda g=groups, s=shape: sequential(
                s, L.Dense(6), L.GroupNormalization(groups=g), L.Dense(2)
            ),
            # Groups of one element are all zeros, and so are their gradients but for rounding.
            tolerance=1e-3 if len(shape) == 1 else TOLERANCE,
        )
for axis in [1, 2, 3, -2, -3]:
    for groups in [1, 2, -1]:
        CASES.add(
            f"group-axis{axis}-{groups}",
            lambda a=axis, g=groups: sequential(
                (4, 6, 2), L.GroupNormalization(groups=g, axis=a), L.Dense(2)
            ),
            tolerance=TOLERANCE,
        )
GROUP = {
    "epsilon": {"epsilon": 0.3},
    "no_scale": {"scale": False},
    "no_center": {"center": False},
    "neither": {"scale": False, "center": False},
}
for name, options in GROUP.items():
    CASES.add(
        f"group-{name}",
        lambda o=options: sequential(IMAGE, L.GroupNormalization(groups=3, **o), L.Dense(2)),
        tolerance=TOLERANCE,
    )
CASES.add(
    "group-masked",
    lambda: sequential((4, 6), L.Masking(), L.GroupNormalization(groups=2)),
    inputs=padded(),
    tolerance=TOLERANCE,
)
for policy, tolerance in HALF.items():
    CASES.add(
        f"group-{policy}",
        lambda p=policy: sequential(
            IMAGE, L.GroupNormalization(groups=2, dtype=p), back_to_float32()
        ),
        tolerance=tolerance,
    )
for groups in [4, 7, 32]:
    REFUSALS.add(
        f"group-{groups}",
        lambda: sequential(IMAGE, L.GroupNormalization(groups=2, name="g")),
        'layer "g" (GroupNormalization)',
        f"groups = {groups}",
        edit=change("GroupNormalization", groups=groups),
    )

# RMSNormalization and UnitNormalization

for shape in [(6,), (3, 6), (None, 6), IMAGE]:
    for epsilon in [1e-6, 0.5, None]:
        CASES.add(
            f"rms-{shape}-{epsilon}",
            lambda s=shape, e=epsilon: sequential(
                s, L.Dense(5), L.RMSNormalization(epsilon=e), L.Dense(2)
            ),
            tolerance=TOLERANCE,
        )
# Keras lines the scale up with the last axes, so those must fit.
for axis in [3, [2, 3], [1, 2, 3], [-1, -2], 1]:
    CASES.add(
        f"rms-axis{axis}",
        lambda a=axis: sequential((4, 4, 4), L.RMSNormalization(axis=a), L.Dense(2)),
        tolerance=TOLERANCE,
    )
CASES.add(
    "rms-drops_the_mask",
    lambda: sequential((4, 6), L.Masking(), L.RMSNormalization()),
    inputs=padded(),
    tolerance=TOLERANCE,
)
for shape in [(6,), (3, 6), IMAGE]:
    CASES.add(
        f"unit-{shape}",
        lambda s=shape: sequential(s, L.Dense(5), L.UnitNormalization(), L.Dense(2)),
        tolerance=TOLERANCE,
    )
for axis in [1, 2, -2, [1, 2], [1, 3], [-1, 1], [1, 2, 3]]:
    CASES.add(
        f"unit-axis{axis}",
        lambda a=axis: sequential((3, 4, 5), L.UnitNormalization(axis=a), L.Dense(2)),
        tolerance=TOLERANCE,
    )
CASES.add(
    "unit-masked",
    lambda: sequential((4, 6), L.Masking(), L.UnitNormalization()),
    # Zeros have no gradient that is a number; here none is asked for.
    inputs=padded(),
    tolerance=TOLERANCE,
)
for policy, tolerance in HALF.items():
    for name, make in [("rms", L.RMSNormalization), ("unit", L.UnitNormalization)]:
        CASES.add(
            f"{name}-{policy}",
            lambda p=policy, m=make: sequential((3, 6), m(dtype=p), back_to_float32()),
            tolerance=tolerance,
        )
REFUSALS.add(
    "rms-axis_that_the_scale_does_not_fit",
    lambda: sequential((3, 4, 5), L.RMSNormalization(name="r")),
    'layer "r" (RMSNormalization)',
    "scale of shape [3]",
    edit=change("RMSNormalization", axis=1),
)

# SpectralNormalization

WRAPPED = {
    "dense": ((6,), lambda: L.Dense(4, activation="tanh")),
    "dense_of_sequences": ((3, 6), lambda: L.Dense(4)),
    "convolution": (IMAGE, lambda: L.Conv2D(3, 2, activation="relu")),
    "einsum": ((3, 6), lambda: L.EinsumDense("abc,cde->abde", (None, 2, 4), bias_axes="de")),
    "frozen": ((6,), lambda: L.Dense(4, trainable=False)),
    "zeros": ((6,), lambda: L.Dense(4)),
}


def zero_kernel(model: keras.Model) -> list[np.ndarray]:
    """Leaves nothing to normalize."""
    model.layers[0].kernel.assign(np.zeros((6, 4)))
    return [np.random.default_rng(4).normal(size=(5, 6)).astype("float32")]


for name, (shape, make) in WRAPPED.items():
    for iterations in [1, 3]:
        CASES.add(
            f"spectral-{name}-{iterations}",
            lambda s=shape, m=make, i=iterations: sequential(
                s, L.SpectralNormalization(m(), power_iterations=i), L.Dense(2)
            ),
            inputs=zero_kernel if name == "zeros" else None,
            tolerance=TOLERANCE,
        )
CASES.add(
    "spectral-embedding",
    # Keras casts the rows to the ids' dtype.
    lambda: sequential((4,), L.SpectralNormalization(L.Embedding(7, 3)), L.Dense(2), dtype="int32"),
    tolerance=TOLERANCE,
)
CASES.add(
    "spectral-masked",
    lambda: sequential((4, 6), L.Masking(), L.SpectralNormalization(L.Dense(3))),
    inputs=padded(),
    tolerance=TOLERANCE,
)


def spectral_shared() -> keras.Model:
    """Normalized again by every call."""
    a, b = keras.Input((6,)), keras.Input((6,))
    shared = L.SpectralNormalization(L.Dense(6))
    return keras.Model([a, b], [L.Dense(2)(shared(shared(a))), shared(b)])


CASES.add("spectral-shared", spectral_shared, tolerance=TOLERANCE)
CASES.add(
    "spectral-mixed_float16",
    lambda: sequential(
        (6,), L.SpectralNormalization(L.Dense(4, dtype="mixed_float16"), dtype="mixed_float16"),
        back_to_float32(),
    ),
    tolerance=1e-2,
)  # fmt: skip
REFUSALS.add(
    "spectral-nothing_to_normalize",
    lambda: sequential((6,), L.SpectralNormalization(L.Dense(3), name="s")),
    'layer "s" (SpectralNormalization)',
    "LayerNormalization",
    "kernel",
    edit=lambda document: document["config"]["layers"][1]["config"]["layer"].update(
        class_name="LayerNormalization", config={"name": "inner"}
    ),
)

test_layers = CASES.test()
test_refusals = REFUSALS.test()
