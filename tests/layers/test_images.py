"""Layers for images against TensorFlow: exactly where nothing is left to chance."""

from __future__ import annotations

import itertools

import keras
import numpy as np
from keras import layers as L
from oracle import Cases, sequential
from refusal import Refusals, change

CASES = Cases()
ran = CASES.fixture()
REFUSALS = Refusals()
messages = REFUSALS.fixture()

VARIANTS = ["bytes", "half", "first"]
TURNS = itertools.cycle(VARIANTS)


def pixels(low: float, high: float, rows: int):
    """Inputs that are images of the given range, in the dtype of the model's input.

    Bytes are those of the range that there are.
    """

    def make(model):
        rng = np.random.default_rng(7)
        spec = model.inputs[0]
        x = rng.uniform(
            max(low, 0) if spec.dtype == "uint8" else low, high, (rows, *spec.shape[1:])
        )
        return [(np.round(x) if spec.dtype == "uint8" else x).astype(spec.dtype)]

    return make


def add(name, layer, *, shape=(10, 9, 3), low=0.0, high=255.0, rows=4, half="float32", **options):
    """Cases of one layer: float32 images, and in turns bytes, half precision or channels first.

    `layer` makes it from the options in which the cases differ; `half` is what half precision
    starts from.
    """
    variants = VARIANTS if options.pop("every", False) else [next(TURNS)]
    half_tolerance = options.pop("half_tolerance", 4e-3)
    options["inputs"] = pixels(low, high, rows)
    CASES.add(name, lambda: sequential(shape, layer()), **options)
    # Keras casts bytes only in graphs, as `fit` and `predict` run them.
    graph = options | {"compiled": True}
    if "bytes" in variants:
        CASES.add(f"{name}-bytes", lambda: sequential(shape, layer(), dtype="uint8"), **graph)
    if "half" in variants:
        CASES.add(
            f"{name}-half",
            lambda: sequential(shape, layer(dtype="mixed_float16"), dtype=half),
            **(graph if half == "uint8" else options) | {"tolerance": half_tolerance},
        )
    if "first" in variants:
        first = (shape[2], *shape[:2])
        CASES.add(
            f"{name}-first",
            lambda: sequential(first, layer(data_format="channels_first")),
            **options,
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
CASES.add(
    "resizing-uint8",
    lambda: sequential((10, 9, 3), L.Resizing(14, 4, "bicubic", dtype="uint8"), dtype="uint8"),
    inputs=pixels(0, 255, 4),
    compiled=True,
)
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
add(
    "random_crop-random",
    lambda **o: L.RandomCrop(5, 6, **o),
    random=True,
    compiled=True,
    every=True,
)
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


for name, low, high in [("bytes", 0.0, 255.0), ("unit", 0.0, 1.0), ("signed", -1.0, 1.0)]:
    pixels_of = {"low": low, "high": high}
    values = {"value_range": (low, high)}
    for factor in [0.3, -0.6, 0.0]:
        add(
            f"brightness-{name}-{factor}",
            lambda f=factor, v=values, **o: L.RandomBrightness((f, f), **v, **o),
            **pixels_of,
        )
        # Contrast is scaled by 1 - low to 1 + high.
        add(
            f"contrast-{name}-{factor}",
            lambda f=factor, v=values, **o: L.RandomContrast((-abs(f), abs(f)), **v, **o),
            **pixels_of,
        )
    add(
        f"auto_contrast-{name}",
        lambda v=values, **o: L.AutoContrast(**v, **o),
        every=True,
        **pixels_of,
    )
    for factor in [0.0, 1.0]:
        add(
            f"invert-{name}-{factor}",
            lambda f=factor, v=values, **o: L.RandomInvert((f, f), **v, **o),
            **pixels_of,
        )
    add(
        f"solarization-{name}",
        lambda v=values, **o: L.Solarization(**v, **o),
        every=True,
        **pixels_of,
    )
    for bits in [1, 3, 8]:
        add(
            f"posterization-{name}-{bits}",
            lambda b=bits, v=values, **o: L.RandomPosterization((b, b), **v, **o),
            **pixels_of,
        )
    for factor in [-0.4, 0.0, 0.7]:
        add(
            f"degeneration-{name}-{factor}",
            lambda f=factor, v=values, **o: L.RandomColorDegeneration((f, f), **v, **o),
            **pixels_of,
        )
    for factor in [0.0, 0.3, 1.0]:
        add(
            f"sharpness-{name}-{factor}",
            lambda f=factor, v=values, **o: L.RandomSharpness((f, f), **v, **o),
            # Rounding decides which pixels are clipped and have no gradient.
            half="uint8",
            **pixels_of,
        )
    # A turn by half of the circle is the same both ways.
    for factor in [0.0, 1.0]:
        add(
            f"hue-{name}-{factor}",
            lambda f=factor, v=values, **o: L.RandomHue((f, f), **v, **o),
            half_tolerance=1e-2,
            **pixels_of,
        )
    for limit, tiles in [(4.0, (8, 8)), (0.0, (2, 3)), (1.5, (1, 4)), (2, (5, 5))]:
        add(
            f"adaptive-{name}-{limit}-{tiles}",
            lambda c=limit, t=tiles, v=values, **o: L.ContrastLimitedAdaptiveHistogramEqualization(
                clip_limit=c, tile_grid_size=t, **v, **o
            ),
            **pixels_of,
        )
    for fill in [0.25, 200, -4]:
        add(
            f"erasing-{name}-{fill}",
            lambda f=fill, v=values, **o: L.RandomErasing(
                (1.0, 1.0), scale=(1.0, 1.0), fill_value=f, **v, **o
            ),
            **pixels_of,
        )
for dtype in ["float32", "uint8"]:
    CASES.add(
        f"erasing-each-{dtype}",
        lambda d=dtype: sequential(
            (10, 9, 3),
            L.RandomErasing((1.0, 1.0), scale=(1.0, 1.0), fill_value=(0.0, 0.5, 2.0)),
            dtype=d,
        ),
        compiled=dtype == "uint8",
    )
for factor in [0.0, 0.2, 0.5, 0.9]:
    add(
        f"saturation-{factor}",
        lambda f=factor, **o: L.RandomSaturation((f, f), **o),
        low=0.0,
        high=1.0,
        every=True,
    )
for factor in [0.0, 1.0]:
    add(f"grayscale-{factor}", lambda f=factor, **o: L.RandomGrayscale(f, **o), every=True)
    add(f"grayscale-one-{factor}", lambda f=factor, **o: L.RandomGrayscale(f, **o), shape=(4, 5, 1))
for kernel, sigma in [(3, 1.0), ((5, 3), 0.4), ((1, 3), 0.8)]:
    add(
        f"blur-{kernel}",
        lambda k=kernel, s=sigma, **o: L.RandomGaussianBlur((1.0, 1.0), k, (s, s), **o),
        every=True,
    )
add("perspective-still", lambda **o: L.RandomPerspective((1.0, 1.0), scale=0.0, **o), every=True)
add("perspective-never", lambda **o: L.RandomPerspective((0.0, 0.0), scale=1.0, **o), every=True)
add("elastic-never", lambda **o: L.RandomElasticTransform(0.0, **o), every=True)
add(
    "elastic-still", lambda **o: L.RandomElasticTransform((1.0, 1.0), (1e-6, 1e-6), **o), every=True
)
add("mix_up-one", lambda **o: L.MixUp(**o), rows=1, every=True)
add("cut_mix-one", lambda **o: L.CutMix(**o), rows=1, every=True)
add("rand_augment-none", lambda **o: L.RandAugment(num_ops=0, **o))

# In float32 Keras gives back its own input, which no functional model takes.
for dtype in ["mixed_float16", "mixed_bfloat16", "float64"]:
    # More bins than values lead Keras beyond its table where pixels have few digits.
    for bins, low, high in [(256, 0, 255), (64, 0, 255), (256, -1, 1), (200, 0, 1)]:
        for layout, shape in [("channels_last", (10, 9, 3)), ("channels_first", (3, 10, 9))]:
            CASES.add(
                f"equalization-{dtype}-{bins}-{low}-{high}-{layout}",
                lambda d=dtype, b=bins, v=(low, high), f=layout, s=shape: sequential(
                    s, L.Equalization(v, b, data_format=f, dtype=d)
                ),
                inputs=pixels(low, high, 4),
                tolerance=1e-2 if dtype == "mixed_bfloat16" else 4e-3,
            )


def jitter(name, **options):
    """Cases of the changes of colours that a layer makes one after the other."""
    for suffix, dtype in [("", "float32"), ("-bytes", "uint8")]:
        CASES.add(
            f"jitter-{name}{suffix}",
            lambda d=dtype: sequential((10, 9, 3), L.RandomColorJitter(**options), dtype=d),
            inputs=pixels(0, 255, 4),
            compiled=dtype == "uint8",
        )


jitter("none")
jitter("brightness", brightness_factor=(0.2, 0.2))
jitter("contrast", contrast_factor=(-0.3, 0.3))
jitter("saturation", saturation_factor=(0.6, 0.6))
jitter("hue", hue_factor=(1.0, 1.0))
jitter(
    "all",
    brightness_factor=(0.2, 0.2),
    contrast_factor=(-0.3, 0.3),
    saturation_factor=(0.6, 0.6),
    hue_factor=(0.0, 0.0),
)

for name, layer in {
    "brightness": lambda **o: L.RandomBrightness(0.2, **o),
    "contrast": lambda **o: L.RandomContrast(0.2, **o),
    "invert": lambda **o: L.RandomInvert(0.5, **o),
    "solarization": lambda **o: L.Solarization(0.3, 0.4, **o),
    "posterization": lambda **o: L.RandomPosterization(5, **o),
    "grayscale": lambda **o: L.RandomGrayscale(**o),
    "degeneration": lambda **o: L.RandomColorDegeneration(0.5, **o),
    "hue": lambda **o: L.RandomHue(0.5, **o),
    "saturation": lambda **o: L.RandomSaturation(0.5, **o),
    "sharpness": lambda **o: L.RandomSharpness(0.5, **o),
    "blur": lambda **o: L.RandomGaussianBlur(0.5, **o),
    "perspective": lambda **o: L.RandomPerspective(0.5, 0.4, **o),
    "elastic": lambda **o: L.RandomElasticTransform(0.5, 0.8, **o),
    "erasing": lambda **o: L.RandomErasing(**o),
    "mix_up": lambda **o: L.MixUp(**o),
    "cut_mix": lambda **o: L.CutMix(**o),
    "rand_augment": lambda **o: L.RandAugment(**o),
    "aug_mix": lambda **o: L.AugMix(**o),
    "aug_mix-shapes": lambda **o: L.AugMix(all_ops=False, **o),
}.items():
    add(f"{name}-random", layer, random=True, every=True)

# Other dtypes. TensorFlow has no gradient of affine transforms in bfloat16.
for dtype, tolerance in [("mixed_bfloat16", 3e-2), ("float64", 1e-5)]:
    for name, layer in {
        "resizing": lambda d: L.Resizing(14, 4, dtype=d),
        "nearest": lambda d: L.Resizing(14, 4, "nearest", dtype=d),
        "crop": lambda d: L.CenterCrop(4, 14, dtype=d),
        "rotation": lambda d: L.RandomRotation((0.1, 0.1), dtype=d),
        "zoom": lambda d: L.RandomZoom((0.3, 0.3), interpolation="nearest", dtype=d),
        "contrast": lambda d: L.RandomContrast((-0.3, 0.3), dtype=d),
        "invert": lambda d: L.RandomInvert((1.0, 1.0), dtype=d),
        "sharpness": lambda d: L.RandomSharpness((0.3, 0.3), dtype=d),
        "hue": lambda d: L.RandomHue((1.0, 1.0), dtype=d),
        "grayscale": lambda d: L.RandomGrayscale(1.0, dtype=d),
    }.items():
        CASES.add(
            f"{name}-{dtype}",
            lambda f=layer, d=dtype: sequential(
                (10, 9, 3), f(d), dtype="float32" if d == "float64" else "uint8"
            ),
            inputs=pixels(0, 255, 4),
            tolerance=tolerance,
            compiled=dtype != "float64",
        )


# Images whose size is known only when they come, and layers around that learn.
for name, layer in {
    "resizing": lambda: L.Resizing(4, 6),
    "resizing-crop": lambda: L.Resizing(4, 6, crop_to_aspect_ratio=True),
    "center_crop": lambda: L.CenterCrop(3, 4),
}.items():
    CASES.add(
        f"{name}-unknown",
        lambda f=layer: sequential((None, None, 3), f(), L.Flatten(), L.Dense(2)),
    )
for name, layer in {
    "rotation": lambda: L.RandomRotation((0.1, 0.1), "constant"),
    "zoom": lambda: L.RandomZoom((0.3, 0.3), (-0.2, -0.2)),
    "translation": lambda: L.RandomTranslation((0.2, 0.2), (0.1, 0.1), "wrap"),
    "perspective": lambda: L.RandomPerspective((1.0, 1.0), 0.0),
    "brightness": lambda: L.RandomBrightness((0.1, 0.1), value_range=(-1, 1)),
    "contrast": lambda: L.RandomContrast((-0.2, 0.2), value_range=(-1, 1)),
    "resizing": lambda: L.Resizing(7, 7, "bicubic"),
    "hue": lambda: L.RandomHue((1.0, 1.0), value_range=(-1, 1)),
}.items():
    CASES.add(
        f"{name}-between",
        lambda f=layer: sequential(
            (8, 9, 2),
            L.Conv2D(3, 3, activation="tanh"),
            f(),
            L.Conv2D(2, 3),
            L.Flatten(),
            L.Dense(2),
        ),
    )

# Layers one after the other, with variables, masks and what differs in training.
CASES.add(
    "pipeline",
    lambda: sequential(
        (10, 9, 3), L.Pipeline([L.Rescaling(1 / 255), L.Resizing(5, 6), L.CenterCrop(4, 4)])
    ),
    inputs=pixels(0, 255, 4),
)
CASES.add(
    "pipeline-random",
    lambda: sequential((10, 9, 3), L.Pipeline([L.RandomFlip(seed=1), L.RandomContrast(0.2)])),
    inputs=pixels(0, 255, 4),
    random=True,
)
CASES.add(
    "pipeline-variables",
    lambda: sequential(
        (6,), L.Pipeline([L.Dense(4, "relu"), L.BatchNormalization(), L.Dense(3)]), L.Dense(2)
    ),
)
CASES.add(
    "pipeline-masks",
    lambda: sequential(
        (5,),
        L.Pipeline([L.Embedding(4, 3, mask_zero=True), L.LSTM(2, return_sequences=True)]),
        L.LSTM(2),
        dtype="int32",
    ),
)
CASES.add(
    "pipeline-nested",
    lambda: sequential((6,), L.Pipeline([L.Pipeline([L.Dense(4)]), L.Pipeline([L.Dense(3)])])),
)
# Images without boxes stay as they are.
add("max_boxes", lambda **o: L.MaxNumBoundingBoxes(3, **o), every=True)


def refuse(name, layer, *parts, **options):
    """A case of a layer, one of whose options is made one that is refused."""
    edit = change(type(layer()).__name__, **options)
    REFUSALS.add(name, lambda: sequential((10, 9, 3), layer()), *parts, edit=edit)


for fill in ["reflect", "wrap"]:
    refuse(
        f"resizing-{fill}",
        lambda: L.Resizing(4, 4, name="r"),
        'layer "r" (Resizing)',
        f'fill_mode = "{fill}"',
        fill_mode=fill,
    )
refuse(
    "resizing-both",
    lambda: L.Resizing(4, 4, crop_to_aspect_ratio=True),
    "only one of crop_to_aspect_ratio and pad_to_aspect_ratio",
    pad_to_aspect_ratio=True,
)
refuse("resizing-none", lambda: L.Resizing(4, 4), "height", height=0)
refuse(
    "jitter-first",
    lambda: L.RandomColorJitter(hue_factor=0.2),
    'data_format = "channels_first"',
    data_format="channels_first",
)
refuse("factor", lambda: L.RandomRotation(0.1), "factor = [2.0,3.0]", factor=[2.0, 3.0])
refuse("value_range", lambda: L.RandomHue(0.1), "two ascending", value_range=[1, 0])
refuse("kernel", lambda: L.RandomGaussianBlur(), "kernel_size = 4", kernel_size=4)
refuse("mirror", lambda: L.RandomElasticTransform(), 'fill_mode = "mirror"', fill_mode="mirror")
REFUSALS.add(
    "channels",
    lambda: sequential((4, 4, 2), L.Identity(), L.Reshape((4, 4, 2))),
    "needs images of [3] channels, got shape (None, 4, 4, 2)",
    edit=lambda document: document["config"]["layers"][1].update(
        class_name="RandomHue", config={"name": "h", "factor": 0.2}
    ),
)


def boxed() -> keras.Model:
    """A layer that takes images and boxes in a dictionary."""
    inputs = [keras.Input((4, 4, 3)), keras.Input((3, 4)), keras.Input((3,))]
    data = {"images": inputs[0], "bounding_boxes": {"boxes": inputs[1], "labels": inputs[2]}}
    kept = L.MaxNumBoundingBoxes(2, bounding_box_format="xyxy")(data)
    return keras.Model(inputs, kept["images"])


REFUSALS.add("boxes", boxed, "(MaxNumBoundingBoxes)", "one input, got 3")
REFUSALS.add(
    "pipeline",
    lambda: sequential((4,), L.Pipeline([L.Dense(2)])),
    "layers must be a list of layers",
    edit=change("Pipeline", layers=[]),
)


def labelled() -> keras.Model:
    """A layer that takes images and labels in a dictionary."""
    images, labels = keras.Input((4, 4, 3)), keras.Input((2,))
    mixed = L.MixUp()({"images": images, "labels": labels})
    return keras.Model([images, labels], [mixed["images"], mixed["labels"]])


REFUSALS.add("labels", labelled, "(MixUp)", "one input, got 2")

test_layers = CASES.test()
test_refusals = REFUSALS.test()
