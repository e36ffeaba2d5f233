"""Layers for images against TensorFlow: exactly where nothing is left to chance."""

from __future__ import annotations

import numpy as np
from keras import layers as L
from oracle import Cases, sequential

CASES = Cases()
ran = CASES.fixture()


def pixels(low: float, high: float, rows: int):
    """Inputs that are images of the given range, in the dtype of the model's input."""

    def make(model):
        rng = np.random.default_rng(7)
        spec = model.inputs[0]
        x = rng.uniform(low, high, (rows, *spec.shape[1:]))
        return [(np.round(x) if spec.dtype == "uint8" else x).astype(spec.dtype)]

    return make


def add(name, layer, *, shape=(10, 9, 3), low=0.0, high=255.0, rows=4, half="float32", **options):
    """Cases of one layer: float32 images, bytes, half precision, and channels first.

    `layer` makes it from the options in which the cases differ; `half` is what half precision
    starts from.
    """
    options["inputs"] = pixels(low, high, rows)
    CASES.add(name, lambda: sequential(shape, layer()), **options)
    # Keras casts bytes only in graphs, as `fit` and `predict` run them.
    graph = options | {"compiled": True}
    CASES.add(f"{name}-bytes", lambda: sequential(shape, layer(), dtype="uint8"), **graph)
    CASES.add(
        f"{name}-half",
        lambda: sequential(shape, layer(dtype="mixed_float16"), dtype=half),
        **(graph if half == "uint8" else options) | {"tolerance": 4e-3},
    )
    first = (shape[2], *shape[:2])
    CASES.add(
        f"{name}-first", lambda: sequential(first, layer(data_format="channels_first")), **options
    )


for interpolation in ["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"]:
    for antialias in [False, True]:
        for size in [(5, 4), (16, 21), (10, 9), (3, 20)]:
            add(
                f"resizing-{interpolation}-{size}-{antialias}",
                lambda i=interpolation, a=antialias, s=size, **o: L.Resizing(
                    *s, interpolation=i, antialias=a, **o
                ),
                # TensorFlow has no gradient in half precision for the others.
                half="float32" if interpolation == "nearest" else "uint8",
            )
# TensorFlow has no gradient for it.
for size in [(5, 4), (16, 21), (3, 20)]:
    CASES.add(
        f"resizing-area-{size}",
        lambda s=size: sequential((10, 9, 3), L.Resizing(*s, interpolation="area"), dtype="uint8"),
        inputs=pixels(0, 255, 4),
        compiled=True,
    )
for shape in [(10, 9, 3), (7, 15, 1), (16, 5, 2)]:
    for size in [(8, 8), (12, 5), (3, 17)]:
        for aspect in ["crop", "pad"]:
            add(
                f"resizing-{aspect}-{shape}-{size}",
                lambda s=size, a=aspect, **o: L.Resizing(
                    *s, **{f"{a}_to_aspect_ratio": True}, fill_value=7.5, **o
                ),
                shape=shape,
            )
        add(f"center_crop-{shape}-{size}", lambda s=size, **o: L.CenterCrop(*s, **o), shape=shape)
        if not (shape[0] > size[0] and shape[1] > size[1]):
            add(
                f"random_crop-{shape}-{size}",
                lambda s=size, **o: L.RandomCrop(*s, **o),
                shape=shape,
                compiled=True,
            )
add("random_crop-random", lambda **o: L.RandomCrop(5, 6, **o), random=True, compiled=True)
for mode in ["horizontal", "vertical", "horizontal_and_vertical"]:
    add(f"flip-{mode}", lambda m=mode, **o: L.RandomFlip(m, **o), random=True)

WARPS = {
    f"{fill}-{interpolation}": {"fill_mode": fill, "interpolation": interpolation}
    | ({"fill_value": 7.5} if fill == "constant" else {})
    for fill in ["constant", "reflect", "wrap", "nearest"]
    for interpolation in ["nearest", "bilinear"]
}
for warp, options in WARPS.items():
    for turn in [0.0, 0.07, -0.3, 0.25]:
        add(
            f"rotation-{warp}-{turn}",
            lambda t=turn, w=options, **o: L.RandomRotation((t, t), **w, **o),
        )
    for height, width in [(0.3, None), (-0.4, None), (0.5, -0.2), (1.0, 0.9)]:
        add(
            f"zoom-{warp}-{height}-{width}",
            lambda h=height, v=width, w=options, **o: L.RandomZoom(
                (h, h), None if v is None else (v, v), **w, **o
            ),
        )
    for height, width in [(0.2, -0.3), (-0.25, 0.77), (1.0, 0.0)]:
        add(
            f"translation-{warp}-{height}-{width}",
            lambda h=height, v=width, w=options, **o: L.RandomTranslation((h, h), (v, v), **w, **o),
        )
    add(f"shear-{warp}", lambda w=options, **o: L.RandomShear(0.0, 0.0, **w, **o))
for shape in [(1, 1, 1), (1, 6, 2), (5, 1, 3), (33, 20, 1)]:
    add(f"rotation-{shape}", lambda **o: L.RandomRotation((0.1, 0.1), **o), shape=shape)
    add(f"zoom-{shape}", lambda **o: L.RandomZoom((0.4, 0.4), **o), shape=shape)
    add(
        f"translation-{shape}",
        lambda **o: L.RandomTranslation((0.4, 0.4), (0.3, 0.3), fill_mode="wrap", **o),
        shape=shape,
    )
add("rotation-random", lambda **o: L.RandomRotation(0.2, **o), random=True)
add("zoom-random", lambda **o: L.RandomZoom(0.2, 0.4, **o), random=True)
add("translation-random", lambda **o: L.RandomTranslation(0.2, 0.4, **o), random=True)
# Keras writes a range around zero, and does not read it.
add("shear-random", lambda **o: L.RandomShear(0.2, 0.4, **o), random=True, export=False)

test_layers = CASES.test()
