"""Models and fits on the stand-in for a GPU, which refuses to mix tensors of two devices."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from stand_in import ROOT, stand_in

DEADLINE_SECONDS = 900


def on_the_stand_in(*command: str) -> str:
    """Run a command of this repository with it; what the command printed."""
    environment = os.environ | {"FLAMBEAU_DEVICE": "cuda", "FLAMBEAU_LIBTORCH": str(stand_in())}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("module", ["recurrent", "categories"])
def test_layers_have_the_numbers_of_keras(module):
    printed = on_the_stand_in(
        sys.executable, "-m", "pytest", "-q", f"tests/layers/test_{module}.py"
    )
    assert " passed" in printed


@pytest.mark.parametrize("group", ["exactness::", "meshes::weights", "servers::matrices"])
def test_fits_come_to_what_they_come_to_on_the_cpu(group):
    # The whole workspace, as only then cargo takes what is built already.
    cargo = ("cargo", "test", "--locked", "--release", "--workspace", "--test", "fits")
    printed = on_the_stand_in(*cargo, group)
    assert "test result: ok. 0 passed" not in printed
