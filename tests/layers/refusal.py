"""What is refused, with the message: all cases of a module in one process of the example."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from oracle import build_forward, given, run_forward
from safetensors.numpy import save_file


@dataclass
class Refusal:
    """A model that cannot be built or run, and parts of the message that says so."""

    make: Callable[[], keras.Model]
    # Changes the model's config, where Keras itself would not build such a model.
    edit: Callable[[dict], None] | None
    inputs: list[np.ndarray]
    parts: list[str]


class Refusals:
    """The refusals of one test module."""

    def __init__(self) -> None:
        """No case yet."""
        self._cases: dict[str, Refusal] = {}

    def add(
        self,
        name: str,
        make: Callable[[], keras.Model],
        *parts: str,
        edit: Callable[[dict], None] | None = None,
        inputs: list[np.ndarray] | None = None,
    ) -> None:
        """Add a case whose message has all of `parts`; inputs only where running is refused."""
        self._cases[name] = Refusal(make, edit, inputs or [], list(parts))

    def fixture(self):
        """A fixture that gives the message of each case."""

        @pytest.fixture(scope="module")
        def messages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
            build_forward()
            folder = tmp_path_factory.mktemp("refusals")
            folders = {}
            for number, (name, case) in enumerate(self._cases.items()):
                folders[name] = folder / str(number)
                write(case, folders[name])
            run_forward(folder, "--initialize", "1")
            return {name: (path / "error.txt").read_text() for name, path in folders.items()}

        return messages

    def test(self):
        """A test of every case."""

        @pytest.mark.parametrize("name", self._cases)
        def test(messages: dict[str, str], name: str) -> None:
            for part in self._cases[name].parts:
                assert part in messages[name], messages[name]

        return test


def write(case: Refusal, folder: Path) -> None:
    """Write a case's files."""
    folder.mkdir()
    keras.utils.clear_session()
    document = json.loads(case.make().to_json())
    if case.edit:
        case.edit(document)
    (folder / "model.json").write_text(json.dumps(document))
    tensors = given(case.inputs, folder)
    # The example skips folders without this file.
    save_file(tensors or {"none": np.zeros(1, "float32")}, folder / "inputs.safetensors")


def change(class_name: str, **options) -> Callable[[dict], None]:
    """An edit that sets options of the first layer of a class."""

    def edit(document: dict) -> None:
        layers = document["config"]["layers"]
        layer = next(layer for layer in layers if layer["class_name"] == class_name)
        layer["config"].update(options)

    return edit
