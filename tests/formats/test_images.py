"""Images decoded, converted and resized as TensorFlow does it.

PNG files give its bytes, exactly. JPEG decoders round differently: bytes are within 3 of those of
`decode_jpeg(dct_method="INTEGER_ACCURATE")`, from which TensorFlow's default, a faster transform,
is up to 6 away itself. Resized images are TensorFlow's floats, rounded half to even.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from rust_examples import run_example

HEIGHT, WIDTH = 37, 53
# Of TensorFlow's own interpolation; `Resizing` of Keras has the same.
METHODS = ["nearest", "bilinear"]


def scene(channels: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A smooth picture with edges and a little noise."""
    rng = np.random.default_rng(channels)
    y, x = np.mgrid[0:height, 0:width] / 9.0
    waves = [np.sin(x * (i + 1) / 2 + i) + np.cos(y * (i + 1) / 3) for i in range(channels)]
    values = 128 + 50 * np.stack(waves, -1) + 40 * (x > 3)[..., None]
    noisy = values + rng.normal(0, 4, values.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8).squeeze()


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_files() -> dict[str, bytes]:
    """PNG files of every color type."""
    grey, both, color, all_four = (Image.fromarray(scene(n)) for n in (1, 2, 3, 4))
    deep = Image.fromarray((scene(1).astype(np.uint16) << 8) | 0x9C)
    palette = color.quantize(16)
    files = {"grey": grey, "grey_alpha": both, "color": color, "color_alpha": all_four}
    files |= {"deep": deep, "bits": grey.convert("1"), "palette": palette}
    written = {name: encoded(image, "PNG") for name, image in files.items()}
    written["transparent_palette"] = encoded(palette, "PNG", transparency=3)
    written["transparent_color"] = encoded(color, "PNG", transparency=(1, 2, 3))
    written["deep_color"] = tf.io.encode_png(scene(3).astype(np.uint16) * 257 // 2).numpy()
    return written


def jpeg_files() -> dict[str, bytes]:
    """JPEG files of the usual samplings, baseline and progressive."""
    color, grey = Image.fromarray(scene(3)), Image.fromarray(scene(1))
    files = {
        f"s{sampling}_q{quality}": encoded(
            color, "JPEG", quality=quality, subsampling=sampling, progressive=progressive
        )
        for sampling in (0, 1, 2)
        for quality, progressive in ((95, False), (75, True), (40, False))
    }
    files["grey"] = encoded(grey, "JPEG")
    files["restarts"] = encoded(color, "JPEG", restart_marker_blocks=3)
    return files


def decoded(
    folder: Path, files: dict[str, bytes], channels: int, resize="refuse", size=(HEIGHT, WIDTH)
) -> dict[str, np.ndarray | str]:
    """What the library makes of each file: pixels, or the reason why there are none."""
    paths = {}
    for name, content in files.items():
        paths[name] = folder / name
        paths[name].write_bytes(content)
    arguments = [*map(str, size), str(channels), resize, *map(str, paths.values())]
    run_example("decode_images", *arguments)
    results: dict[str, np.ndarray | str] = {}
    for name, path in paths.items():
        raw = path.with_name(f"{name}.raw")
        if raw.exists():
            pixels = np.frombuffer(raw.read_bytes(), np.uint8)
            results[name] = pixels.reshape(*size, channels)
        else:
            results[name] = path.with_name(f"{name}.error").read_text()
    return results


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_files_give_the_bytes_of_tensorflow(tmp_path, channels):
    files = png_files()
    for name, ours in decoded(tmp_path, files, channels).items():
        theirs = tf.io.decode_image(files[name], channels=channels).numpy()
        if name in ("bits", "palette") and channels == 4:
            # TensorFlow's alpha is as large as the file's 1 or 4 bits: 1 or 15, nearly transparent.
            theirs[..., 3] = 255
        # TensorFlow takes the luminance of 16 bits, which can round otherwise.
        off = 1 if (name, channels) == ("deep_color", 1) else 0
        assert np.abs(ours.astype(int) - theirs).max() <= off, name


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_files_give_nearly_the_bytes_of_tensorflow(tmp_path, channels):
    files = jpeg_files()
    for name, ours in decoded(tmp_path, files, channels).items():
        accurate = tf.io.decode_jpeg(files[name], channels, dct_method="INTEGER_ACCURATE").numpy()
        default = tf.io.decode_image(files[name], channels).numpy()
        off = np.abs(ours.astype(int) - accurate)
        assert off.max() <= 3 and off.mean() < 0.5, (name, off.max(), off.mean())
        off = np.abs(ours.astype(int) - default)
        assert off.max() <= 8 and off.mean() < 1.5, (name, off.max(), off.mean())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(16, 16), (37, 53), (80, 31), (1, 1), (224, 224)])
def test_resized_images_are_those_of_tensorflow_rounded(tmp_path, method, size):
    files = {"color": png_files()["color"], "grey_alpha": png_files()["grey_alpha"]}
    for name, ours in decoded(tmp_path, files, 3, method, size).items():
        image = tf.io.decode_image(files[name], channels=3)
        theirs = tf.round(tf.image.resize(tf.cast(image, tf.float32), size, method)).numpy()
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_a_file_that_was_cut_is_refused_as_by_tensorflow(tmp_path):
    whole = jpeg_files()["s2_q95"]
    ends = [4, 20, 300, len(whole) // 2, len(whole) - 100, len(whole) - 3, len(whole) - 1]
    files = {f"cut_{end}": whole[:end] for end in ends}
    for name, ours in decoded(tmp_path, files, 3).items():
        assert isinstance(ours, str) and "JPEG image is damaged" in ours, name
        with pytest.raises(tf.errors.InvalidArgumentError):
            tf.io.decode_image(files[name], channels=3)
