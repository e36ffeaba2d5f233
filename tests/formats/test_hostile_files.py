"""Files that a hostile or unlucky hand made with h5py and zipfile: refused with a reason, within a
bound of memory, and nothing outside of them is ever opened."""

import io
import json
import os
import re
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format
from rust_examples import examples, run_example

MEMORY_KIB = 1 << 20


def convert(folder: Path) -> dict:
    return json.loads(run_example("convert_files", str(folder), str(folder)))


def refused(folder: Path) -> str:
    """The message with which the files of a folder are refused, within a bound of memory."""
    limited = f'ulimit -v {MEMORY_KIB} && exec "$0" "$@"'
    program = str(examples() / "convert_files")
    command = ["bash", "-c", limited, program, str(folder), str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1, result
    return result.stderr


def dense(file: h5py.File) -> h5py.Group:
    return file.create_group("layers/dense/vars")


def circle(file: h5py.File) -> None:
    group = file.create_group("layers")
    group["again"] = group
    group["and_again"] = group


def repetition(file: h5py.File) -> None:
    dense(file)["0"] = np.zeros(1000, np.float32)
    for index in range(1, 10):
        file[f"layers/dense/vars/{index}"] = file["layers/dense/vars/0"]


def depth(file: h5py.File) -> None:
    file.create_group("/".join(["a"] * 100))


def wide_shape(file: h5py.File) -> None:
    dense(file).create_dataset("0", (1 << 40,), np.float32, chunks=(1 << 20,), compression="gzip")


def empty_storage(file: h5py.File) -> None:
    dense(file).create_dataset("0", (1 << 16, 1 << 14), np.float32)


def small_chunks(file: h5py.File) -> None:
    dense(file).create_dataset("0", (1 << 20,), np.int8, chunks=(1,))


def large_chunk(file: h5py.File) -> None:
    limits = {"maxshape": (None,), "chunks": (1 << 28,), "compression": "gzip"}
    dense(file).create_dataset("0", (4,), np.float32, **limits)


def zeros(file: h5py.File) -> None:
    """Many zeros in few bytes."""
    chunks = {"chunks": (1 << 18,), "compression": "gzip"}
    dataset = dense(file).create_dataset("0", (1 << 24,), np.float32, **chunks)
    dataset[:] = 0


def external_storage(file: h5py.File) -> None:
    outside = [("/etc/passwd", 0, 8)]
    dense(file).create_dataset("0", (2,), np.float32, external=outside)


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2,), np.float32)
    layout[:] = h5py.VirtualSource("/etc/passwd", "0", (2,))
    dense(file).create_virtual_dataset("0", layout)


def text(file: h5py.File) -> None:
    dense(file)["0"] = "text"


def compound(file: h5py.File) -> None:
    dense(file)["0"] = np.zeros(2, [("a", "f4"), ("b", "i4")])


def complex_numbers(file: h5py.File) -> None:
    dense(file)["0"] = np.zeros(2, np.complex64)


def big_endian(file: h5py.File) -> None:
    dense(file)["0"] = np.zeros(2, ">f4")


def opaque(file: h5py.File) -> None:
    dense(file)["0"] = np.zeros(2, "V2")


def stray(file: h5py.File) -> None:
    file["layers/dense/kernel"] = np.zeros(2, np.float32)


def number_for_a_name(file: h5py.File) -> None:
    dense(file).attrs["name"] = 3


HOSTILE = [
    (circle, "nest deeper|more groups than its size allows"),
    (depth, "nest deeper"),
    (repetition, "more bytes than the file has"),
    # hdf5-pure does not know the newest layout's chunk sizes of three bytes ("unexpected EOF").
    (wide_shape, "more than the file has room for|unexpected EOF"),
    (empty_storage, "more bytes than the file has"),
    (small_chunks, "more than the file has room for"),
    (large_chunk, "more than the file has room for"),
    (zeros, "more bytes than the file has|unexpected EOF"),
    (external_storage, "extern"),
    (virtual, "layers/dense/vars/0"),
    (text, "no dtype of a Keras variable"),
    (compound, "a compound"),
    (complex_numbers, "a compound"),
    (big_endian, "little-endian"),
    (opaque, "opaque"),
    (stray, "in no group named vars"),
    (number_for_a_name, "holds no strings"),
]


def written(build: Callable[[h5py.File], None], **options) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w", **options) as file:
        build(file)
    return content.getvalue()


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize(("build", "message"), HOSTILE)
def test_hostile_weights_are_refused(build, message: str, libver: str, tmp_path: Path) -> None:
    (tmp_path / "x.weights.h5").write_bytes(written(build, libver=libver))
    assert re.search(message, refused(tmp_path))


def test_many_references_to_one_long_string_take_no_memory(tmp_path: Path) -> None:
    length, count = 1_000_000, 3000

    def build(file: h5py.File) -> None:
        names = ["x" * length, *["y"] * count]
        dense(file).attrs.create("name", names, dtype=h5py.string_dtype())

    content = bytearray(written(build))
    # A reference: length, address of a heap, index in it. All others become the first, which is
    # to the first object of the heap that holds the long string.
    heap = content.rindex(b"GCOL", 0, content.index(b"x" * length))
    start = content.index(struct.pack("<QI", heap, 1)) - 4
    reference = content[start : start + 16]
    content[start : start + 16 * (count + 1)] = reference * (count + 1)
    (tmp_path / "x.weights.h5").write_bytes(content)
    assert "attribute name holds no strings" in refused(tmp_path)


def test_no_link_leads_out_of_a_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.hdf5", "w") as file:
        file["secret"] = np.zeros(3, np.float32)
    with h5py.File(tmp_path / "x.weights.h5", "w") as file:
        dense(file)["0"] = h5py.ExternalLink(str(tmp_path / "secret.hdf5"), "/secret")
    dump = convert(tmp_path)["x.weights.h5"]
    assert dump["groups"] == {"layers/dense": {"name": "", "vars": [], "named": {}}}


def archive(folder: Path, members: dict[str, bytes], compression: int) -> None:
    with zipfile.ZipFile(folder / "x.keras", "w", compression) as file:
        file.writestr("metadata.json", '{"keras_version": "3.15.1", "date_saved": ""}')
        for name, content in members.items():
            file.writestr(name, content)


def nothing(file: h5py.File) -> None:
    """An empty file."""


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "holds no config.json"),
        ({"config.json": b"{}"}, "holds no model.weights.h5"),
        ({"config.json": b"\xff"}, "config.json is damaged"),
        ({"config.json": b"{}", "model.weights.npz": b""}, "read from HDF5 only"),
        ({"config.json": b"{}", "assets/../x": b"", "model.weights.h5": b""}, "out of the folder"),
        ({"config.json": b"{}", "model.weights.h5": written(depth)}, "nest deeper"),
        ({"config.json": b"{}", "model.weights.h5": b"PK"}, "no HDF5 file"),
    ],
)
def test_hostile_archives_are_refused(members, message, compression, tmp_path: Path) -> None:
    archive(tmp_path, members, compression)
    assert re.search(message, refused(tmp_path))


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5", "assets/x"])
def test_members_that_expand_too_far_are_refused(name: str, tmp_path: Path) -> None:
    members = {"config.json": b"{}", "model.weights.h5": written(nothing)}
    archive(tmp_path, members | {name: bytes(1 << 26)}, zipfile.ZIP_DEFLATED)
    assert "above the limit" in refused(tmp_path)


def test_a_compressed_archive_does_not_expand_twice(tmp_path: Path) -> None:
    members = {"config.json": b"{}", "model.weights.h5": written(zeros)}
    archive(tmp_path, members, zipfile.ZIP_DEFLATED)
    assert "x.keras: " in refused(tmp_path)


def test_other_files_of_keras_are_refused_by_name(tmp_path: Path) -> None:
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.save_weights(tmp_path / "model.weights.json", max_shard_size=1)
    index = (tmp_path / "model.weights.json").read_bytes()
    for path in tmp_path.iterdir():
        path.unlink()
    (tmp_path / "x.weights.h5").write_bytes(index)
    assert "sharded weights" in refused(tmp_path)
    model.save(tmp_path / "x.h5")
    (tmp_path / "x.h5").rename(tmp_path / "x.weights.h5")
    assert "legacy format" in refused(tmp_path)
    model.save_weights(tmp_path / "y.weights.h5")
    (tmp_path / "x.weights.h5").unlink()
    (tmp_path / "y.weights.h5").rename(tmp_path / "x.h5")
    assert "no model of Keras's legacy format" in refused(tmp_path)


@pytest.mark.parametrize("count", [0, 1, 3000, 9000])
def test_lists_of_names_are_read_however_they_are_stored(count: int, tmp_path: Path) -> None:
    """As fixed strings, which older versions of h5py made of them, in one attribute or many."""
    names = [f"dense_{index}/kernel:0".encode() for index in range(count)]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        legacy_h5_format.save_attributes_to_hdf5_group(file, "layer_names", np.array([b"dense"]))
        group = file.create_group("dense")
        legacy_h5_format.save_attributes_to_hdf5_group(group, "weight_names", np.array(names))
        for index, name in enumerate(names):
            group[name] = np.int32(index)
        assert ("weight_names" in group.attrs) == (count < 9000)
    dump = convert(tmp_path)["x.h5"]
    ((layer, weights),) = dump["layers"]
    assert layer == "dense"
    assert [name.encode() for name, _ in weights] == names
    assert [bytes.fromhex(array["bytes"]) for _, array in weights] == [
        struct.pack("<i", index) for index in range(count)
    ]
    # It was written anew under the same name.
    with h5py.File(tmp_path / "x.h5") as file:
        group = file["dense"]
        found = legacy_h5_format.load_attributes_from_hdf5_group(group, "weight_names")
        assert [name.encode() for name in found] == names
        assert all(group[name][()] == index for index, name in enumerate(names))
