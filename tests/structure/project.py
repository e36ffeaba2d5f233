"""What the structure tests read: the project's files, crates and imports."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE_SUFFIXES = {".rs", ".java", ".scala", ".py", ".sh"}
SOURCE_ROOTS = ("native", "jvm/src", "python", "examples", "scripts", "tests")
GENERATED = {"target", "build", "dist", "__pycache__"}


def sources(*roots: str, suffix: str | None = None) -> list[Path]:
    """Every source file under the given folders (all of them by default)."""
    return [
        path
        for root in roots or SOURCE_ROOTS
        for path in sorted((ROOT / root).rglob("*"))
        if path.is_file()
        and path.suffix in ({suffix} if suffix else SOURCE_SUFFIXES)
        and not GENERATED & set(path.relative_to(ROOT).parts)
    ]


def name(path: Path) -> str:
    """A path as messages show it."""
    return path.relative_to(ROOT).as_posix()


def crates() -> dict[str, dict]:
    """The manifests of the workspace, by folder under native/."""
    return {
        path.parent.name: tomllib.loads(path.read_text())
        for path in sorted((ROOT / "native").glob("*/Cargo.toml"))
    }


def rust_code(path: Path) -> str:
    """A Rust file without its comments, which may name what the code does not use."""
    return re.sub(r"//[^\n]*", "", path.read_text())


def python_imports(path: Path) -> set[str]:
    """The top-level packages that a Python file imports, at any depth of it."""
    found = re.findall(r"^\s*(?:from|import)\s+([\w.]+)", path.read_text(), re.MULTILINE)
    return {module.split(".")[0] for module in found}
