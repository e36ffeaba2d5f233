"""The wheel, and a Python that has what the wheel brings and nothing else."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPARKS = ROOT / "build/spark"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, as `make wheel` builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT / "python", check=True)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def clean_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with the wheel and its dependencies."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, symlinks=True, with_pip=True)
    python = folder / "bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True)
    return python


@pytest.fixture(scope="session")
def pyspark_folder() -> Callable[[str], Path]:
    """Gives a folder to import PySpark of a version from, without what its extras would bring."""
    return _pyspark_folder


def _pyspark_folder(wanted: str) -> Path:
    folder = SPARKS / wanted
    if (folder / "pyspark").exists():
        return folder
    if wanted == version("pyspark"):
        folder.mkdir(parents=True, exist_ok=True)
        import py4j
        import pyspark

        for package in (py4j, pyspark):
            (folder / package.__name__).symlink_to(Path(package.__path__[0]))
        return folder
    # Under another name until it is whole.
    scratch = SPARKS / f"{wanted}.part"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", scratch]
    subprocess.run([*pip, f"pyspark=={wanted}"], check=True)
    scratch.rename(folder)
    return folder
