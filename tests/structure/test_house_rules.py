"""House rules that no compiler checks: unsafe code, panics, names, sizes, the jar's contents."""

from __future__ import annotations

import re
import tomllib
import zipfile

import pytest
from project import ROOT, crates, name, rust_code, sources

MAX_LINES = 600
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "base"}
JAR = ROOT / "jvm/target/flambeau-spark4.0_2.13-0.1.0.jar"
JAR_CONTENTS = re.compile(
    r"META-INF/(MANIFEST\.MF|maven/io\.flambeau/[^/]+/pom\.(xml|properties)|services/org\.apache\.spark\.[\w.]+)"
    r"|flambeau-build\.properties"
    r"|io/flambeau/native/linux-x86_64/libflambeau\.so"
    r"|io/flambeau/([\w$]+/)*[\w$-]+\.class"
    r"|org/apache/spark/sql/flambeau/[\w$-]+\.class"
)


def words(stem: str) -> set[str]:
    """The words of a file name, in either spelling: `row_cache`, `RowCache`."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", stem)}


def test_unsafe_code_only_where_the_file_declares_it():
    offenders = [
        name(path)
        for path in sources("native", suffix=".rs")
        if re.search(r"\bunsafe\s*(\{|\(|fn\b|impl\b|extern\b)", rust_code(path))
        and not re.search(r"#!\[expect\(\s*unsafe_code,\s*reason = ", rust_code(path))
    ]
    assert offenders == []


def test_every_profile_unwinds():
    profiles = tomllib.loads((ROOT / "Cargo.toml").read_text())["profile"]
    assert {"dev", "release"} <= set(profiles)
    for profile, settings in profiles.items():
        inherits = settings.get("inherits")
        assert settings.get("panic", "unwind" if inherits else None) == "unwind", profile


def test_every_crate_takes_the_workspace_lints():
    for crate, manifest in crates().items():
        assert manifest["lints"] == {"workspace": True}, crate


def test_no_file_outgrows_the_limit():
    sizes = {name(path): len(path.read_text().splitlines()) for path in sources()}
    assert {path: size for path, size in sizes.items() if size > MAX_LINES} == {}


def test_no_file_has_a_name_that_says_nothing():
    offenders = [name(path) for path in sources() if words(path.stem) & FORBIDDEN_NAMES]
    assert offenders == []


def test_every_rust_file_says_what_it_is():
    offenders = [
        name(path)
        for path in sources("native", suffix=".rs")
        if not path.read_text().startswith("//!")
    ]
    assert offenders == []


def test_every_part_has_the_same_version():
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    python = tomllib.loads((ROOT / "python/pyproject.toml").read_text())["project"]["version"]
    package = (ROOT / "python/flambeau/__init__.py").read_text()
    assert python == version
    assert f'__version__ = "{version}"' in package
    assert f"<version>{version}</version>" in (ROOT / "jvm/pom.xml").read_text()
    assert JAR.stem.endswith(f"-{version}")


@pytest.mark.parametrize("word", ["TO" + "DO", "FIX" + "ME", "XX" + "X"])
def test_nothing_is_left_for_later(word):
    offenders = [name(path) for path in sources() if re.search(rf"\b{word}\b", path.read_text())]
    assert offenders == []


def test_the_jar_holds_our_classes_and_the_library_only():
    with zipfile.ZipFile(JAR) as jar:
        entries = [entry for entry in jar.namelist() if not entry.endswith("/")]
    assert [entry for entry in entries if not JAR_CONTENTS.fullmatch(entry)] == []
    assert "io/flambeau/native/linux-x86_64/libflambeau.so" in entries


def test_the_jar_and_the_library_are_of_one_build():
    with zipfile.ZipFile(JAR) as jar:
        properties = jar.read("flambeau-build.properties").decode()
        library = jar.read("io/flambeau/native/linux-x86_64/libflambeau.so")
    build = re.search(r"^build=(\S+)$", properties, re.MULTILINE)
    assert build is not None, properties
    assert build[1].encode() in library
