"""The one-way rule: examples -> python -> jvm -> jni -> train -> {keras, collective, formats},
keras -> {formats, libtorch}."""

from __future__ import annotations

import re
import sys

from project import ROOT, crates, name, python_imports, rust_code, sources

# What each crate may depend on, inside the workspace.
MAY_USE = {
    "formats": set(),
    "collective": set(),
    "libtorch": set(),
    "keras": {"formats", "libtorch"},
    "train": {"formats", "collective", "libtorch", "keras"},
    "jni": {"formats", "collective", "libtorch", "keras", "train"},
}

# Where a dependency from outside has its only places.
PLACES = {
    "tch": {"libtorch", "keras", "train"},
    "jni": {"jni"},
    "arrow": {"train", "jni"},
    "tokio": {"collective"},
    "socket2": {"collective"},
    "snow": {"collective"},
    "aegis": {"collective"},
}


def dependencies(manifest: dict) -> set[str]:
    """What the shipped code of a crate depends on; tests may use anything."""
    return set(manifest.get("dependencies", {}))


def test_every_crate_has_its_place_in_the_rule():
    assert set(crates()) == set(MAY_USE)


def test_crates_depend_only_downwards():
    for crate, manifest in crates().items():
        used = {
            dependency.removeprefix("flambeau-")
            for dependency in dependencies(manifest)
            if dependency.startswith("flambeau-")
        }
        assert used <= MAY_USE[crate], f"{crate} depends on {used - MAY_USE[crate]}"


def test_outside_dependencies_stay_in_their_places():
    for crate, manifest in crates().items():
        for dependency in dependencies(manifest):
            family = "arrow" if dependency.startswith("arrow-") else dependency
            places = PLACES.get(family, {crate})
            assert crate in places, f"{crate} depends on {dependency}, which is for {places}"


def test_sockets_are_opened_only_in_collective():
    offenders = [
        name(path)
        for path in sources("native", suffix=".rs")
        if "native/collective/" not in path.as_posix()
        and re.search(r"std::net\b|std::os::unix::net\b|TcpStream|UdpSocket", rust_code(path))
    ]
    assert offenders == []


def test_the_jvm_side_knows_nothing_of_python():
    offenders = [
        name(path)
        for path in sources("jvm/src")
        if re.search(r"\bimport\s+(py4j|org\.apache\.spark\.api\.python)\b", path.read_text())
    ]
    assert offenders == []


def test_native_methods_are_declared_in_one_class_only():
    declaring = {
        name(path)
        for path in sources("jvm/src/main")
        if re.search(r"^\s*(public\s+)?static\s+native\s|@native\b", path.read_text(), re.MULTILINE)
    }
    assert declaring == {"jvm/src/main/java/io/flambeau/jni/Native.java"}


def test_python_reaches_the_rest_through_pyspark_only():
    allowed = sys.stdlib_module_names | {
        "flambeau",
        "keras",
        "py4j",
        "pyspark",
        "typing_extensions",
    }
    for path in sources("python/flambeau", suffix=".py"):
        extra = python_imports(path) - allowed
        assert not extra, f"{name(path)} imports {extra}"


def test_nothing_imports_scripts():
    offenders = []
    for path in sources(suffix=".py"):
        if "scripts" in python_imports(path):
            offenders.append(name(path))
    for path in sources("native", suffix=".rs"):
        if "scripts/" in rust_code(path):
            offenders.append(name(path))
    assert offenders == []


def test_examples_use_only_what_a_user_has():
    allowed = sys.stdlib_module_names | {"flambeau", "keras", "numpy", "pyspark"}
    for path in sources("examples", suffix=".py"):
        # Users of TensorFlowOnSpark have files that TensorFlow wrote.
        writes = {"tensorflow"} if path.match("examples/tfos/write.py") else set()
        extra = python_imports(path) - allowed - writes
        assert not extra, f"{name(path)} imports {extra}"


def test_shipped_code_never_reaches_into_tests():
    for path in [*sources("python/flambeau"), *sources("jvm/src/main"), *sources("examples")]:
        assert not re.search(r"^\s*(from|import)\s+tests\b", path.read_text(), re.MULTILINE), path
    assert (ROOT / "tests").is_dir()
