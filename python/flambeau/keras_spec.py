"""Keras things as the text that crosses to the JVM.

Keras is optional: its objects are recognised only when the caller has imported it already.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import keras

    Model: TypeAlias = str | os.PathLike[str] | keras.Model
    Spec: TypeAlias = str | Mapping[str, Any] | keras.Optimizer | keras.Loss | keras.Metric


# Before the base64 of a file that travels as text, in the jar too.
_DATA_URI = "data:application/octet-stream;base64,"


def model_text(model: Model) -> str:
    """Return the text that the jar takes for `model`.

    A string is Keras JSON text, or a path or URI of a .json or .keras file that Spark can read; a
    `pathlib.Path` is a local file. A `keras.Model` goes along whole, as a data: URI of its .keras
    file: with its weights, and with its compile settings if it has been compiled.

    Raises TypeError for anything else, and ValueError for a compiled model whose file would not say
    all of a loss or metric.
    """
    if isinstance(model, str):
        return model
    if isinstance(model, os.PathLike):
        return Path(model).resolve().as_uri()
    if _is_keras(model, "Model"):
        _check_compiled(model)
        return _DATA_URI + encoded_archive(model)
    raise TypeError(
        f"model is a {_name(model)}; give Keras JSON text, a path or URI of a .json or .keras "
        "file, or a keras.Model of Keras 3"
    )


def spec(value: Spec) -> str:
    """Return an optimizer, a loss or a metric as its Keras name or its Keras config in JSON.

    Raises TypeError if it is neither a name, nor a config, nor a Keras object.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return json.dumps(value)
    if any(_is_keras(value, kind) for kind in ("Optimizer", "Loss", "Metric")):
        document = sys.modules["keras"].saving.serialize_keras_object(value)
        document["config"].update(_left_out(value))
        return json.dumps(document)
    raise TypeError(
        f"{value!r} is a {_name(value)}; give a Keras name such as 'adam', a Keras config such as "
        "{'class_name': 'Adam', 'config': {}}, or an optimizer, loss or metric of Keras 3"
    )


def specs(value: object) -> str:
    """Return losses as the JSON that the jar takes: of one output as `spec`, else by output.

    Raises TypeError for what is no loss, nor a list or dictionary of them.
    """
    if isinstance(value, Mapping) and "class_name" not in value:
        return json.dumps({name: _nested(item) for name, item in value.items()})
    if isinstance(value, list | tuple):
        return json.dumps([_nested(item) for item in value])
    return spec(value)


def metric_specs(value: object) -> list[str]:
    """Return metrics as the jar takes them: one text each, or one JSON text for several outputs.

    Raises TypeError for what is no metric, nor a list or dictionary of them.
    """
    if isinstance(value, Mapping) and "class_name" not in value:
        return [json.dumps({name: _nested(item) for name, item in value.items()})]
    items = list(value) if isinstance(value, list | tuple) else [value]
    if any(isinstance(item, list | tuple) or item is None for item in items):
        return [json.dumps([_nested(item) for item in items])]
    return [spec(item) for item in items]


def json_text(value: object) -> str:
    """Return a list or dictionary as JSON; a string stays what it is."""
    return value if isinstance(value, str) else json.dumps(value)


def _nested(value: object) -> Any:
    """Return a part of what `compile` takes as what JSON holds."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [_nested(item) for item in value]
    if isinstance(value, Mapping) and "class_name" not in value:
        return {name: _nested(item) for name, item in value.items()}
    text = spec(value)
    return json.loads(text) if text.startswith("{") else text


def encoded_archive(model: keras.Model) -> str:
    """Return the base64 of the model's .keras file."""
    with _scratch_file() as path:
        model.save(path)
        return base64.b64encode(path.read_bytes()).decode("ascii")


def decoded_archive(text: str) -> keras.Model:
    """Return the model whose .keras file `encoded_archive` gave."""
    import keras

    with _scratch_file() as path:
        path.write_bytes(base64.b64decode(text))
        return keras.models.load_model(path)


@contextmanager
def _scratch_file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="flambeau-") as folder:
        yield Path(folder) / "model.keras"


def _left_out(value: object) -> dict[str, Any]:
    """Return the arguments of a loss or metric that its config lacks, as Huber's delta."""
    if not any(_is_keras(value, kind) for kind in ("Loss", "Metric")):
        return {}
    arguments: dict[str, Any] = getattr(value, "_fn_kwargs", {})
    if not arguments:
        return {}
    saving = sys.modules["keras"].saving
    again = saving.deserialize_keras_object(saving.serialize_keras_object(value))
    kept = getattr(again, "_fn_kwargs", {})
    return {name: given for name, given in arguments.items() if kept.get(name) != given}


def _check_compiled(model: keras.Model) -> None:
    compiled = getattr(model, "_compile_config", None)
    for value in sys.modules["keras"].tree.flatten(getattr(compiled, "config", {})):
        for name, given in _left_out(value).items():
            raise ValueError(
                f"the model is compiled with {_name(value)}({name}={given!r}), and Keras's files "
                f"leave {name} out: give it to KerasEstimator, as its loss or metrics"
            )


def _is_keras(value: object, kind: str) -> bool:
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(value, getattr(keras, kind))


def _name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
