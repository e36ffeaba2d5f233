"""One jar for every version of Spark that is promised: a small job with each, installed afresh.

`make matrix` takes all of them; otherwise two do, the one that the jar is compiled against and the
newest. PySpark comes from PyPI into build/spark once, about 450 MB a version.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
JOB = Path(__file__).with_name("small_job.py")
ROWS = 600
JOB_SECONDS = 900

# The newest of each minor release, and the one that the jar is compiled against.
VERSIONS = ["4.0.1", "4.0.5", "4.1.4", "4.2.1", "4.3.0"]
TAKEN = VERSIONS if os.environ.get("FLAMBEAU_MATRIX") == "all" else [VERSIONS[0], VERSIONS[-1]]


@pytest.mark.parametrize("version", TAKEN)
def test_a_small_job_runs(clean_python, pyspark_folder, tmp_path, version):
    environment = {
        **os.environ,
        "PYTHONPATH": str(pyspark_folder(version)),
        "PYSPARK_PYTHON": str(clean_python),
        "SPARK_SCALA_VERSION": "2.13",
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    environment.pop("SPARK_HOME", None)
    done = subprocess.run(
        [clean_python, JOB, sys.executable, tmp_path],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=JOB_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["spark"] == [version, version]
    assert set(result["history"]) == {"loss", "val_loss"}
    assert result["history"]["loss"][-1] < result["history"]["loss"][0]
    assert result["right"] == result["loaded"] > 0.9 * ROWS
    assert len(result["from files"]) == 5
    assert result["from files"][-1] < result["from files"][0]
    assert result["from csv"]["losses"][-1] < result["from csv"]["losses"][0]
    assert result["from csv"]["right"] == 2 * result["right"]
    assert "CSV, plain lines by Flambeau" in result["from csv"]["plan"]
    assert result["on a stream"] > 0.8 * ROWS
    reason = r'layer "\w+" \(Warp\): this class is not supported; supported: [\w, ]+'
    assert re.fullmatch(rf"rank \d: {reason}", result["refused fit"])
    # Spark's own words, the reason in one line, and no stack of the task.
    words = r"Job aborted due to stage failure: Task .+: io\.flambeau\.ConfigException: "
    assert re.match(rf"{words}{reason}\n\nDriver stacktrace:", result["refused transform"])


def test_what_is_promised_is_what_is_tested():
    minors = [version.rpartition(".")[0] for version in VERSIONS]
    project = tomllib.loads((ROOT / "python/pyproject.toml").read_text())["project"]
    [spark] = project["optional-dependencies"]["spark"]
    first, last = minors[0], minors[-1]
    after = f"{last.split('.')[0]}.{int(last.split('.')[1]) + 1}"
    assert spark == f"pyspark[ml]>={first},<{after}"

    readme = (ROOT / "README.md").read_text()
    row = re.search(r"^\| Spark \| (.+) \|$", readme, re.MULTILINE)
    assert row is not None
    assert re.findall(r"\d+\.\d+\.\d+", row[1]) == VERSIONS
    compiled = (ROOT / "jvm/pom.xml").read_text()
    assert f"<spark.version>{VERSIONS[0]}</spark.version>" in compiled
