"""What Flambeau fails with: the exceptions of the jar, by the same names, with the same messages.

Only what happens inside a call of this package comes so. The rows of `transform` are computed
when Spark runs a job for them, and an error in them is what Spark makes of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from py4j.protocol import Py4JJavaError

if TYPE_CHECKING:
    from py4j.java_gateway import JavaObject

_JVM_PACKAGE = "io.flambeau."


class FlambeauException(RuntimeError):
    """Any failure of Flambeau; its subclasses say what the caller can do next.

    `java_exception` is the JVM's own exception, with its stack, for a report of a bug.
    """

    def __init__(self, message: str, java_exception: JavaObject | None = None) -> None:
        """Make a failure described by `message`."""
        super().__init__(message)
        self.java_exception = java_exception


class ConfigException(FlambeauException, ValueError):
    """The configuration or the model is wrong: correct it and run again."""


class DataException(FlambeauException, ValueError):
    """The data do not fit the model or are damaged: mend them, or name other columns."""


class NumericException(FlambeauException, ArithmeticError):
    """The loss is no longer a number: lower the learning rate, or clean the data."""


class MemoryException(FlambeauException, MemoryError):
    """The memory of an executor or of its GPU ran out; the message says what to do."""


class PeerFailedException(FlambeauException):
    """Another rank had one of the above; the message says which."""


class CollectiveException(FlambeauException):
    """A rank was lost, or did not arrive or answer in time."""


class StorageException(FlambeauException):
    """A file could not be read or written."""


class CancelledException(FlambeauException):
    """The job was cancelled."""


class NativeLoadException(FlambeauException):
    """libtorch or the native library cannot be loaded; the message says where it was looked for."""


class NativePanicException(FlambeauException):
    """A bug in Flambeau: please report it."""


_CLASSES: dict[str, type[FlambeauException]] = {
    cls.__name__: cls for cls in FlambeauException.__subclasses__()
}


@contextmanager
def from_jvm() -> Iterator[None]:
    """Raise Flambeau's failures in the JVM as the classes above, without the JVM's stack."""
    try:
        yield
    except Py4JJavaError as error:
        failure = _failure(error.java_exception)
        if failure is None:
            raise
        raise failure from None


def _failure(java_exception: JavaObject | None) -> FlambeauException | None:
    """The first exception of Flambeau's among `java_exception` and its causes."""
    while java_exception is not None:
        name: str = java_exception.getClass().getName()
        if name.startswith(_JVM_PACKAGE):
            cls = _CLASSES.get(name.removeprefix(_JVM_PACKAGE), FlambeauException)
            return cls(java_exception.getMessage(), java_exception)
        java_exception = java_exception.getCause()
    return None
