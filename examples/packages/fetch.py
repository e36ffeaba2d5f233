"""Write the short descriptions of Debian's packages and the sections that they are in.

Usage: fetch.py FILE. The CSV file has the columns section and description; it comes from the
package lists of the system, which must be Debian or one of its children.
"""

import csv
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SECTIONS = 20


def paragraphs() -> Iterator[dict[str, str]]:
    """Every package that apt knows, as the fields that begin a line."""
    done = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True)
    for paragraph in done.stdout.split("\n\n"):
        lines = (line.partition(": ") for line in paragraph.splitlines() if line[:1] != " ")
        yield {name: value for name, _, value in lines}


def main(target: Path) -> None:
    """Write the packages of the largest sections."""
    if shutil.which("apt-cache") is None:
        sys.exit(
            "there is no apt-cache here: name a CSV file with section and description, DATA=FILE"
        )
    found = {
        (package["Section"], package["Description"])
        for package in paragraphs()
        if "Section" in package and "Description" in package
    }
    if len(found) < 10_000:
        sys.exit(f"apt knows {len(found)} packages only: run apt-get update first")
    largest = dict(Counter(section for section, _ in found).most_common(SECTIONS))
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["section", "description"])
        rows.writerows(sorted(row for row in found if row[0] in largest))


main(Path(sys.argv[1]))
