"""Operations of `keras.ops.image`, and of `keras.ops.nn` on windows of images, against TensorFlow."""

from __future__ import annotations

import numpy as np
from keras import ops
from operations import OperationCases, functional, with_ties, within
from refusal import Refusals, change

CASES = OperationCases()
ran = CASES.fixture()
REFUSALS = Refusals()
messages = REFUSALS.fixture()

FORMATS = ("channels_last", "channels_first")
RNG = np.random.default_rng(5)


def images(data_format: str, height: int | None, width: int | None, channels: int, dtype="float32"):
    """The spec of images in a layout."""
    last = data_format == "channels_last"
    return (height, width, channels) if last else (channels, height, width), dtype


def single(call, **options):
    """An operation on all images, and on the first one alone."""
    return lambda x: [call(x, **options), call(x[0], **options)]


def bytes_of(model) -> list[np.ndarray]:
    """Inputs of all values that a byte has."""
    rng = np.random.default_rng(9)
    return [
        rng.integers(0, 256, (5, *spec.shape[1:])).astype(spec.dtype)
        if spec.dtype == "uint8"
        else rng.normal(size=(5, *spec.shape[1:])).astype("float32")
        for spec in model.inputs
    ]


def colours(model) -> list[np.ndarray]:
    """Colours between 0 and 1 with ties and zeros among them."""
    return [np.clip(np.abs(x), 0, 1) for x in with_ties(model)]


for data_format in FORMATS:
    last = data_format == "channels_last"
    rgb = images(data_format, 4, 5, 3)
    CASES.op(
        f"rgb_to_grayscale-{data_format}",
        single(ops.image.rgb_to_grayscale, data_format=data_format),
        rgb,
    )
    # TensorFlow's gradient, where colours are alike too.
    CASES.op(
        f"rgb_to_hsv-{data_format}", single(ops.image.rgb_to_hsv, data_format=data_format), rgb,
        inputs=colours, tolerance=2e-5,
    )  # fmt: skip
    CASES.op(
        f"rgb_to_hsv-apart-{data_format}", single(ops.image.rgb_to_hsv, data_format=data_format), rgb,
        inputs=within(0.05, 1), tolerance=2e-5,
    )  # fmt: skip
    CASES.op(
        f"hsv_to_rgb-{data_format}", single(ops.image.hsv_to_rgb, data_format=data_format), rgb,
        inputs=within(0, 1),
    )  # fmt: skip
    for fill_mode in ("constant", "nearest", "wrap", "reflect"):
        options = dict(fill_mode=fill_mode, fill_value=0.7, data_format=data_format)
        CASES.op(
            f"affine_transform-{fill_mode}-{data_format}",
            lambda x, t, o=options: [
                *(ops.image.affine_transform(x, t, interpolation=i, **o) for i in ("bilinear", "nearest")),
                ops.image.affine_transform(x, t[0], **o),
                ops.image.affine_transform(x[0], t[0], **o),
                ops.image.affine_transform(x, np.array([1.1, 0.1, -1.3, 0.2, 0.9, 0.6, 0, 0], "float32"), **o),
            ],
            images(data_format, 6, 5, 2), ((8,), "float32"),
            inputs=lambda model: [RNG.normal(size=(5, *model.inputs[0].shape[1:])).astype("float32"), TRANSFORMS],
        )  # fmt: skip
    CASES.op(
        f"perspective_transform-{data_format}",
        lambda x, s, e, d=data_format: [
            *(ops.image.perspective_transform(x, s, e, interpolation=i, fill_value=0.4, data_format=d) for i in ("bilinear", "nearest")),
            ops.image.perspective_transform(x, s[0], e[0], data_format=d),
            ops.image.perspective_transform(x[0], START[0], START[0] + 0.5, data_format=d),
        ],
        images(data_format, 6, 5, 2), ((4, 2), "float32"), ((4, 2), "float32"), tolerance=1e-4,
        inputs=lambda model: [RNG.normal(size=(5, *model.inputs[0].shape[1:])).astype("float32"), START, END],
    )  # fmt: skip
    CASES.op(
        f"pad_images-{data_format}",
        lambda x, d=data_format: [
            ops.image.pad_images(x, 1, 2, 3, 0, data_format=d),
            ops.image.pad_images(x, top_padding=1, left_padding=0, target_height=8, target_width=9, data_format=d),
            ops.image.pad_images(x[0], bottom_padding=2, right_padding=1, target_height=9, target_width=7, data_format=d),
        ],
        images(data_format, 6, 5, 2),
    )  # fmt: skip
    CASES.op(
        f"crop_images-{data_format}",
        lambda x, d=data_format: [
            ops.image.crop_images(x, 1, 2, 3, 0, data_format=d),
            ops.image.crop_images(x, top_cropping=1, left_cropping=0, target_height=3, target_width=2, data_format=d),
            ops.image.crop_images(x[0], bottom_cropping=2, right_cropping=1, target_height=4, target_width=3, data_format=d),
        ],
        images(data_format, 6, 5, 2),
    )  # fmt: skip
    CASES.op(
        f"gaussian_blur-{data_format}",
        lambda x, d=data_format: [
            *(ops.image.gaussian_blur(x, k, s, data_format=d)
              for k, s in [((3, 3), (1.0, 1.0)), ((5, 3), (0.5, 2.0)), ((3, 5), (1.5, 0.7)), ((4, 2), (1.0, 2.0))]),
            ops.image.gaussian_blur(x[0], data_format=d),
        ],
        images(data_format, 6, 5, 2),
    )  # fmt: skip
    CASES.op(f"sobel_edges-{data_format}", lambda x, d=data_format: ops.image.sobel_edges(x, data_format=d),
             images(data_format, 6, 5, 2))  # fmt: skip
    # Variances are differences of squares, which leave three digits less.
    CASES.op(
        f"ssim-{data_format}",
        lambda x, y, d=data_format: [
            ops.image.ssim(x, y, data_format=d), ops.image.ssim(x[0], y[0], data_format=d),
            ops.image.ssim(x, y, max_val=2.0, filter_size=4, filter_sigma=0.8, k1=0.1, k2=0.2, data_format=d),
        ],
        images(data_format, 13, 12, 2), images(data_format, 13, 12, 2), tolerance=2e-4, inputs=within(0, 1),
    )  # fmt: skip
    PATCHES = [
        dict(size=3), dict(size=(2, 3), strides=1, padding="same"), dict(size=2, strides=(2, 1)),
        dict(size=(3, 2), strides=1, dilation_rate=2), dict(size=2, strides=1, dilation_rate=(1, 2), padding="same"),
    ]  # fmt: skip
    CASES.op(
        f"extract_patches-{data_format}",
        lambda x, d=data_format, v=PATCHES: [
            *(ops.image.extract_patches(x, data_format=d, **options) for options in v),
            ops.image.extract_patches(x[0], 3, data_format=d),
        ],
        images(data_format, 7, 6, 2),
    )  # fmt: skip
    volumes = (7, 6, 5, 2) if last else (2, 7, 6, 5)
    CASES.op(
        f"extract_patches_3d-{data_format}",
        lambda x, d=data_format: [
            ops.image.extract_patches(x, (2, 3, 2), data_format=d),
            ops.image.extract_patches_3d(x, 2, strides=1, padding="same", data_format=d),
            ops.image.extract_patches_3d(x[0], (3, 2, 2), strides=(2, 1, 1), data_format=d),
        ],
        (volumes, "float32"),
    )  # fmt: skip
    CASES.op(
        f"resize-{data_format}",
        single(ops.image.resize, size=(7, 3), data_format=data_format),
        images(data_format, 6, 5, 2),
    )  # fmt: skip

TRANSFORMS = np.array([
    [1, 0, 0, 0, 1, 0, 0, 0], [1, 0, 1.5, 0, 1, -0.7, 0, 0], [0.8, 0.3, 0.2, -0.3, 1.2, 0.4, 0, 0],
    [1.5, 0, -1, 0, 0.5, 1, 0.01, 0.02], [0.9, -0.4, 3, 0.5, 0.7, -2, 0, 0.03],
], "float32")  # fmt: skip
START = np.array([[[0, 0], [4, 0], [0, 5], [4, 5]]] * 5, "float32")
END = START + RNG.uniform(-0.8, 0.8, START.shape).astype("float32")

CASES.op(
    "images-bytes",
    lambda x, t: [
        ops.image.rgb_to_grayscale(x), ops.image.resize(x, (12, 10)), ops.image.pad_images(x, 1, 1, 1, 1),
        ops.image.crop_images(x, 1, 1, 1, 1),
        *(ops.image.affine_transform(x, t, interpolation=i) for i in ("bilinear", "nearest")),
    ],
    ((6, 5, 3), "uint8"), ((8,), "float32"),
    inputs=lambda model: [bytes_of(model)[0], TRANSFORMS],
)  # fmt: skip
CASES.op(
    "resize-bytes",
    lambda x: [ops.image.resize(x, size) for size in [(3, 7), (9, 2), (12, 10), (17, 13), (5, 6)]],
    ((6, 5, 3), "uint8"), inputs=bytes_of,
)  # fmt: skip
CASES.op("ssim-bytes", lambda x, y: ops.image.ssim(x, y, max_val=255), ((12, 12, 3), "uint8"), ((12, 12, 3), "uint8"),
         inputs=bytes_of)  # fmt: skip
CASES.op(
    "images-integers",
    lambda x: [ops.image.extract_patches(x, 2), ops.image.extract_patches(x, 3, 1, padding="same"),
               ops.image.pad_images(x, 1, 2, 1, 0)],
    ((6, 5, 2), "int32"),
)  # fmt: skip
CASES.op(
    "images-unknown",
    lambda x, y: [
        ops.image.rgb_to_grayscale(x), ops.image.rgb_to_hsv(x), ops.image.gaussian_blur(x), ops.image.sobel_edges(x),
        ops.image.pad_images(x, 1, 1, 1, 1), ops.image.extract_patches(x, 2), ops.image.resize(x, (3, 4)),
        ops.image.crop_images(x, top_cropping=1, left_cropping=1, target_height=2, target_width=3),
        ops.image.affine_transform(x, TRANSFORMS[2]), ops.image.ssim(x, y, filter_size=3),
    ],
    ((None, None, 3), "float32"), ((None, None, 3), "float32"), tolerance=2e-4,
    inputs=lambda model: [np.random.default_rng(s).uniform(0.05, 1, (5, 6, 5, 3)).astype("float32") for s in (1, 2)],
)  # fmt: skip
# Sixteen bits hold three digits.
for dtype in ("float16", "bfloat16"):
    CASES.op(
        f"images-{dtype}",
        lambda x, t=dtype: [
            ops.image.rgb_to_grayscale(ops.cast(x, t)), ops.image.gaussian_blur(ops.cast(x, t)),
            ops.image.sobel_edges(ops.cast(x, t)), ops.image.extract_patches(ops.cast(x, t), 2),
            ops.image.pad_images(ops.cast(x, t), 1, 1, 1, 1),
            # TensorFlow's gradients overflow in float16, and there is none in bfloat16.
            ops.image.rgb_to_hsv(ops.stop_gradient(ops.cast(x, t))),
            ops.image.affine_transform(ops.stop_gradient(ops.cast(x, t)), TRANSFORMS[1]),
        ],
        ((6, 5, 3), "float32"), inputs=within(0.1, 1), tolerance=3e-2,
    )  # fmt: skip


CASES.op(
    "images-float64",
    lambda x, y: [
        call(ops.cast(x, "float64"))
        for call in (
            ops.image.rgb_to_grayscale, ops.image.rgb_to_hsv, ops.image.gaussian_blur, ops.image.sobel_edges,
            lambda x: ops.image.extract_patches(x, 2), lambda x: ops.image.affine_transform(x, TRANSFORMS[3]),
            lambda x: ops.image.ssim(x, ops.cast(y, "float64"), filter_size=3), lambda x: ops.unfold(x, 2),
            lambda x: ops.image.scale_and_translate(x, (5, 9, 4, 3), np.array([1.4, 0.9]), np.array([0.3, -1.2]), (1, 2), "cubic"),
            lambda x: ops.image.map_coordinates(x[0], np.array([[0.3, 4.2], [1.7, -0.4], [0.0, 2.0]]), 1, "reflect"),
        )
    ],
    ((6, 5, 3), "float32"), ((6, 5, 3), "float32"), inputs=within(0.05, 1),
)  # fmt: skip


def places(model) -> list[np.ndarray]:
    """A tensor, and coordinates in it and around it."""
    rng = np.random.default_rng(3)
    x, coordinates = model.inputs
    length = (5, *x.shape[1:])
    high = np.array(length[: coordinates.shape[1]]).reshape(-1, *[1] * (len(coordinates.shape) - 2))
    at = rng.uniform(-2.0, 2.0, (5, *coordinates.shape[1:])) + rng.uniform(
        0, high, coordinates.shape[1:]
    )
    return [rng.normal(size=length).astype(x.dtype), at.astype(coordinates.dtype)]


for fill_mode in ("constant", "nearest", "wrap", "reflect"):
    options = dict(fill_mode=fill_mode, fill_value=0.3)
    CASES.op(
        f"map_coordinates-{fill_mode}",
        lambda x, c, o=options: [ops.image.map_coordinates(x, c[0], order, **o) for order in (0, 1)],
        ((4, 6), "float32"), ((3, 7, 2), "float32"), inputs=places,
    )  # fmt: skip
CASES.op(
    "map_coordinates-integers",
    lambda x, c: [
        ops.image.map_coordinates(x, c[0], 1), ops.image.map_coordinates(x, ops.cast(c[0], "int32"), 0, "wrap"),
        ops.image.map_coordinates(x, c[0], 1, "nearest", 2),
    ],
    ((4, 6), "int32"), ((3, 7, 2), "float32"), inputs=places,
)  # fmt: skip
CASES.op(
    "map_coordinates-mirror",
    lambda x: [ops.image.map_coordinates(x, np.array([[0.2, 3.7, -1.5], [1.0, 2.5, -1.2], [0.0, 0.7, 3.5]], "float32"), o, "mirror") for o in (0, 1)],
    ((4, 6), "float32"),
)  # fmt: skip

SCALES = [(2.0, 0.5), (0.7, 1.3), (1.0, 1.0)]
for method in ("linear", "cubic", "lanczos3", "lanczos5", "bilinear"):
    CASES.op(
        f"scale_and_translate-{method}",
        lambda x, s, m=method: [
            *(ops.image.scale_and_translate(x, (5, 9, 4, 2), np.array(scale, "float32"), np.array([0.3, -1.2], "float32"), (1, 2), m, antialias=a)
              for scale in SCALES for a in (True, False)),
            ops.image.scale_and_translate(x, (5, 6, 5, 2), s[0, :2], s[0, 2:], (-3, 2), m),
            ops.image.scale_and_translate(x[0], (8, 5, 2), s[1, :1], s[1, 2:3], (0,), m),
        ],
        ((6, 5, 2), "float32"), ((4,), "float32"), tolerance=5e-5,
        inputs=lambda model: [RNG.normal(size=(5, 6, 5, 2)).astype("float32"), RNG.uniform(0.6, 1.9, (5, 4)).astype("float32")],
    )  # fmt: skip
WINDOWS = [dict(kernel_size=2), dict(kernel_size=(3, 2), stride=2), dict(kernel_size=2, padding=1, stride=(2, 1)),
           dict(kernel_size=(2, 3), dilation=(2, 1), padding=(1, 2))]  # fmt: skip
CASES.op(
    "unfold", lambda x: [ops.unfold(x, **options) for options in WINDOWS], ((2, 6, 7), "float32")
)
CASES.op(
    "unfold-integers",
    lambda x: [ops.unfold(x, **options) for options in WINDOWS],
    ((2, 6, 7), "int32"),
)
for number, options in enumerate(WINDOWS):
    CASES.op(
        f"fold-{number}",
        lambda x, y, o=options: [ops.fold(ops.unfold(x, **o) ** 2, (6, 7), **o), ops.fold(ops.unfold(y, **o), (6, 7), **o)],
        ((2, 6, 7), "float32"), ((2, 6, 7), "int32"),
    )  # fmt: skip


for number, options in enumerate([
    dict(seed=3), dict(seed=-8, alpha=3.0, sigma=1.7, interpolation="nearest"),
    dict(seed=5, fill_mode="constant", fill_value=0.6), dict(seed=2**40, sigma=0.9, alpha=6, fill_mode="nearest"),
    dict(seed=1, sigma=2, alpha=9.0, fill_mode="wrap"), dict(seed=4, data_format="channels_first"),
]):  # fmt: skip
    # Noise of 6 digits is multiplied by alpha.
    CASES.op(f"elastic_transform-{number}", lambda x, o=options: [ops.image.elastic_transform(x, **o), ops.image.elastic_transform(x[0], **o)],
             images(options.get("data_format", "channels_last"), 9, 8, 2), tolerance=2e-4)  # fmt: skip


def wide(model) -> list[np.ndarray]:
    """Numbers of all sizes, among them whole ones and the ends of dtypes."""
    rng = np.random.default_rng(6)
    inputs = []
    for spec in model.inputs:
        shape = (5, *spec.shape[1:])
        if spec.dtype.startswith("float"):
            x = rng.uniform(-1, 1, shape) * 10.0 ** rng.integers(-1, 10, shape)
            x.reshape(-1)[:6] = [255.5, -128.9, 65504.0, 2.0**30, -(2.0**31), -(2.0**40)]
            inputs.append(x.astype(spec.dtype))
        else:
            ends = np.iinfo(spec.dtype)
            inputs.append(rng.integers(ends.min, ends.max, shape, spec.dtype, endpoint=True))
    return inputs


INTEGERS = ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64"]
# Keras 3.15 makes nonsense of others.
for dtype, targets in {
    "float32": [*INTEGERS, "float16", "bfloat16", "float64"],
    "uint8": [*INTEGERS, "float16", "bfloat16", "float32"],
    "int16": [*INTEGERS, "float32"],
    "int32": [*INTEGERS, "float16", "float64"],
    "int64": [*INTEGERS, "float16"],
}.items():
    CASES.op(
        f"saturate_cast-{dtype}", lambda x, t=targets: [ops.saturate_cast(x, to) for to in t],
        ((9,), dtype), inputs=wide,
    )  # fmt: skip


def refuse(name: str, call, *parts: str, specs: tuple, **options) -> None:
    """A case of an operation that is refused."""
    REFUSALS.add(name, lambda: functional(call, *specs), *parts, **options)


FRAME = ((6, 5, 3), "float32")
refuse(
    "saturate_cast",
    lambda x: ops.saturate_cast(x, "float32"),
    "cannot cast int32 to float32",
    specs=(((3,), "int32"),),
)
refuse("scale-integers", lambda x: ops.image.scale_and_translate(x, (5, 9, 4, 3), np.ones(2, "float32"), np.ones(2, "float32"), (1, 2), "linear"),
       "needs floating-point numbers", specs=((FRAME[0], "uint8"),))  # fmt: skip
refuse("elastic-seed", ops.image.elastic_transform, "seed = null", "an integer", specs=(FRAME,))
refuse("gray-channels", ops.image.rgb_to_grayscale, "of [1, 3] channels", specs=(FRAME,),
       edit=lambda d: d["config"]["layers"][0]["config"].update(batch_shape=[None, 6, 5, 2]))  # fmt: skip
refuse("hsv-integers", ops.image.rgb_to_hsv, "needs floating-point numbers", specs=(FRAME,),
       edit=lambda d: d["config"]["layers"][0]["config"].update(dtype="uint8"))  # fmt: skip
refuse("affine-fill", lambda x: ops.image.affine_transform(x, TRANSFORMS[0]), 'fill_mode = "mirror"', specs=(FRAME,),
       edit=change("AffineTransform", fill_mode="mirror"))  # fmt: skip
refuse("order", lambda x: ops.image.map_coordinates(x, np.zeros((4, 2), "float32"), 1), "order = 3", specs=(FRAME,),
       edit=change("MapCoordinates", order=3))  # fmt: skip
refuse("margins", lambda x: ops.image.pad_images(x, 1, 1, 1, 1), "takes two of top_padding", specs=(FRAME,),
       edit=change("PadImages", target_height=9))  # fmt: skip
refuse("crop", lambda x: ops.image.crop_images(x, 1, 1, 1, 1), "cannot bring an axis of 6", specs=(FRAME,),
       edit=change("CropImages", top_cropping=6))  # fmt: skip
refuse("patches", lambda x: ops.image.extract_patches(x, 2), "cannot both be above 1", specs=(FRAME,),
       edit=change("ExtractPatches", dilation_rate=2))  # fmt: skip
refuse("method", lambda x: ops.image.scale_and_translate(x, (5, 9, 4, 3), np.ones(2, "float32"), np.ones(2, "float32"), (1, 2), "linear"),
       'method = "triangle"', specs=(FRAME,), edit=change("ScaleAndTranslate", method="triangle"))  # fmt: skip
refuse("fold", lambda x: ops.fold(x, (6, 7), 2), "30 windows of 4 elements", specs=(((8, 30), "float32"),),
       edit=lambda d: d["config"]["layers"][0]["config"].update(batch_shape=[None, 8, 29]))  # fmt: skip

test_operations = CASES.test()
test_refusals = REFUSALS.test()
