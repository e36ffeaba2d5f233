"""The wheel says which systems it is for, and brings what it needs there."""

from __future__ import annotations

import json
import re
import subprocess
import zipfile

LIBRARY = "io/flambeau/native/linux-x86_64/libflambeau.so"


def test_the_tag_names_the_oldest_glibc_that_has_what_the_library_needs(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        [jar] = [name for name in archive.namelist() if name.endswith(".jar")]
        archive.extract(jar, tmp_path)
        [information] = [name for name in archive.namelist() if name.endswith(".dist-info/WHEEL")]
        tag = re.search(r"^Tag: (.+)$", archive.read(information).decode(), re.MULTILINE)
        assert "Root-Is-Purelib: false" in archive.read(information).decode()
    library = zipfile.ZipFile(tmp_path / jar).extract(LIBRARY, tmp_path)
    # binutils come with the compiler that a build needs.
    readelf = ["readelf", "--wide", "--version-info", "--file-header", library]
    listing = subprocess.run(readelf, check=True, capture_output=True, text=True).stdout
    assert "Advanced Micro Devices X86-64" in listing
    newest = max(int(minor) for minor in re.findall(r"Name: GLIBC_2\.(\d+)", listing))
    assert tag is not None
    assert tag[1] == f"py3-none-manylinux_2_{newest}_x86_64"
    assert wheel.name.endswith(f"-{tag[1]}.whl")


def test_a_new_environment_has_the_wheel_and_its_dependencies_only(clean_python):
    listed = subprocess.run(
        [clean_python, "-m", "pip", "list", "--format", "json"],
        check=True,
        capture_output=True,
        text=True,
    )
    packages = {package["name"].replace("_", "-") for package in json.loads(listed.stdout)}
    assert packages - {"pip", "setuptools"} == {"flambeau", "numpy", "typing-extensions"}
