"""Fourier transforms, of signals and frames of them, against TensorFlow."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops
from operations import OperationCases, functional
from refusal import Refusals

CASES = OperationCases()
ran = CASES.fixture()

LENGTHS = [1, 2, 3, 8, 15]
DTYPES = ["float32", "float64"]


def cast(results: object, dtype: str) -> list:
    """Results as float32, for gradients that have factors of float32."""
    results = keras.tree.flatten(results)
    return [ops.cast(y, "float32") for y in results] if dtype == "float64" else results


def of_parts(call, dtype: str = "float32", **options):
    """The operation on a complex tensor, given in parts."""

    def run(x: keras.KerasTensor, y: keras.KerasTensor) -> list:
        parts = (ops.cast(x, dtype), ops.cast(y, dtype))
        return cast(call(parts, **options), dtype)

    return run


def held(x: keras.KerasTensor, cut: bool) -> keras.KerasTensor:
    """The input, without gradients where a transform cuts it: TensorFlow's are wrong or fail."""
    return ops.stop_gradient(x) if cut else x


for n in LENGTHS:
    for dtype in DTYPES:
        shape = [((2, n), "float32")] * 2
        CASES.op(f"fft-{n}-{dtype}", of_parts(ops.fft, dtype), *shape)
        CASES.op(
            f"rfft-{n}-{dtype}",
            lambda x, d=dtype: cast(ops.rfft(ops.cast(x, d)), d),
            shape[0],
        )
        CASES.op(
            f"irfft-{n}-{dtype}",
            of_parts(ops.irfft, dtype, fft_length=None if n > 1 else 1),
            *shape,
        )
    for m in [1, 2, 4, 5]:
        plane = [((n, m), "float32")] * 2
        CASES.op(f"fft2-{n}-{m}", of_parts(ops.fft2), *plane)
        CASES.op(f"ifft2-{n}-{m}", of_parts(ops.ifft2), *plane)
    for length in [1, 4, 7, 20]:
        signal = ((2, n), "float32")
        CASES.op(
            f"rfft-{n}-of-{length}",
            lambda x, k=length, cut=n > length: list(ops.rfft(held(x, cut), k)),
            signal,
        )
        CASES.op(
            f"irfft-{n}-of-{length}",
            lambda x, y, k=length, cut=n > length // 2 + 1: ops.irfft(
                (held(x, cut), held(y, cut)), k
            ),
            signal, signal,
        )  # fmt: skip
# The length of the signal is unknown.
CASES.op("rfft-unknown", lambda x: list(ops.rfft(x)), ((None, None), "float32"))
CASES.op("rfft-back", lambda x: ops.irfft(ops.rfft(x, 9), 9), ((3, 9), "float32"))
for length, stride in [(1, 1), (3, 1), (4, 2), (5, 3), (2, 5), (12, 4)]:
    for dtype in ["float32", "int32"]:
        CASES.op(
            f"extract_sequences-{length}-{stride}-{dtype}",
            lambda x, n=length, s=stride: ops.extract_sequences(x, n, s),
            ((2, 12), dtype),
        )
CASES.op(
    "extract_sequences-unknown", lambda x: ops.extract_sequences(x, 3, 2), ((None,), "float32")
)

CUSTOM = np.random.default_rng(5).uniform(0.2, 1, 6).tolist()
# sequence_length, sequence_stride, fft_length.
FRAMES = [(6, 2, 8), (6, 3, 6), (5, 2, 5), (5, 2, 9), (6, 6, 7), (1, 1, 1), (8, 4, 16), (2, 3, 4)]
WINDOWS = {"hann": "hann", "hamming": "hamming", "none": None}
for frames in FRAMES:
    for name, window in WINDOWS.items():
        for center in [True, False]:
            options = {"window": window, "center": center}
            CASES.op(
                f"stft-{frames}-{name}-{center}",
                lambda x, f=frames, o=options: list(ops.stft(x, *f, **o)),
                ((2, 21), "float32"),
            )
            spectrum = [((2, 5, frames[2] // 2 + 1), "float32")] * 2
            CASES.op(
                f"istft-{frames}-{name}-{center}",
                lambda x, y, f=frames, o=options: [
                    ops.istft((x, y), *f, **o), ops.istft((x, y), *f, length=7, **o),
                    ops.istft((x, y), *f, length=100, **o),
                ],
                *spectrum,
            )  # fmt: skip
for center in [True, False]:
    CASES.op(
        f"stft-custom-{center}",
        lambda x, c=center: list(ops.stft(x, 6, 2, 9, window=CUSTOM, center=c)),
        ((21,), "float32"),
    )
    CASES.op(
        f"stft-unknown-{center}",
        lambda x, c=center: list(ops.stft(x, 4, 3, 4, center=c)),
        ((None,), "float32"),
    )
    CASES.op(
        f"stft-float64-{center}",
        lambda x, c=center: cast(ops.stft(ops.cast(x, "float64"), 6, 4, 9, center=c), "float64"),
        ((21,), "float32"),
    )
CASES.op(
    "istft-custom", lambda x, y: ops.istft((x, y), 6, 2, 9, window=CUSTOM),
    *[((4, 5), "float32")] * 2,
)  # fmt: skip
CASES.op(
    "stft-back",
    lambda x: ops.istft(ops.stft(x, 6, 2, 8), 6, 2, 8, length=21),
    ((2, 21), "float32"),
)

test_operations = CASES.test()

REFUSALS = Refusals()
messages = REFUSALS.fixture()


def view_as_real() -> keras.Model:
    """A model in which a tensor is complex."""
    return functional(lambda x: ops.view_as_real(ops.view_as_complex(x)), ((3, 2), "float32"))


REFUSALS.add("complex", view_as_real, "ViewAsComplex", "is not supported")
REFUSALS.add(
    "half",
    lambda: functional(lambda x: list(ops.rfft(x)), ((8,), "float16")),
    "RFFT", "float32 or float64, got float16",
)  # fmt: skip
REFUSALS.add(
    "window",
    lambda: functional(lambda x: list(ops.stft(x, 4, 2, 4, window="bartlett")), ((8,), "float32")),
    "STFT", 'window = "bartlett"', "hamming",
)  # fmt: skip
REFUSALS.add(
    "short",
    lambda: functional(lambda x: list(ops.stft(x, 6, 2, 4)), ((8,), "float32")),
    "STFT", "sequence_length = 6", "fft_length = 4",
)  # fmt: skip

test_refusals = REFUSALS.test()
