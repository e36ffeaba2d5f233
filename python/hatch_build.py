"""Tags the wheel with the systems that can load the library in its jar, as PEP 600 names them.

The library is for x86-64 and for a glibc with every symbol version that it asks for; which they
are stands in its ELF section of needed versions (Linux Standard Base, "Symbol Versioning").
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = "io/flambeau/native/linux-x86_64/libflambeau.so"

# The oldest glibc 2.x among the distributions that ship a libstdc++ with GLIBCXX_3.4.y, by y.
GLIBC_OF_LIBSTDCXX = {8: 5, 13: 12, 19: 17, 22: 24, 24: 27, 28: 31, 29: 34, 30: 35, 33: 39}

_ELF_64_LITTLE = b"\x7fELF\x02\x01"
_X86_64 = 62
_VERNEED = 0x6FFFFFFE


class PlatformTag(BuildHookInterface):
    """The build hook: hatchling calls it before it writes the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Set the tag; raises ValueError for a library that no tag fits."""
        [jar] = self.build_config.force_include
        with zipfile.ZipFile(Path(self.root, jar)) as archive:
            library = archive.read(LIBRARY)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag(library)}"


def platform_tag(library: bytes) -> str:
    """Return the platform tag of a shared library, such as `manylinux_2_34_x86_64`."""
    return f"manylinux_2_{max(map(glibc_minor, needed_versions(library)), default=0)}_x86_64"


def glibc_minor(version: str) -> int:
    """Return the x of the oldest glibc 2.x that comes with a symbol version; 0 if all have it."""
    name, _, number = version.partition("_")
    major, *minors = map(int, number.split("."))
    if name == "GLIBC" and major == 2:
        return minors[0]
    if name == "GLIBCXX" and major == 3:
        wanted = minors[1] if len(minors) > 1 else 0
        for shipped, glibc in sorted(GLIBC_OF_LIBSTDCXX.items()):
            if shipped >= wanted:
                return glibc
    if name in ("GLIBC", "GLIBCXX"):
        raise ValueError(f"{LIBRARY} needs {version}: not known which systems have that")
    return 0


def needed_versions(elf: bytes) -> Iterator[str]:
    """Give the symbol versions that a shared library asks of others, such as `GLIBC_2.34`."""
    (machine,) = struct.unpack_from("<H", elf, 18)
    if elf[:6] != _ELF_64_LITTLE or machine != _X86_64:
        raise ValueError(f"{LIBRARY} is no ELF library for x86-64")
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count = struct.unpack_from("<HH", elf, 0x3A)
    # name, type, flags, address, offset, size, link, info, alignment, entry size
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, table + at * size) for at in range(count)]
    for section in sections:
        if section[1] != _VERNEED:
            continue
        strings = sections[section[6]][4]
        entry = section[4]
        for _ in range(section[7]):
            _, versions, _, first, following = struct.unpack_from("<HHIII", elf, entry)
            version = entry + first
            for _ in range(versions):
                _, _, _, name, step = struct.unpack_from("<IHHII", elf, version)
                begin = strings + name
                yield elf[begin : elf.index(b"\0", begin)].decode("ascii")
                version += step
            entry += following
