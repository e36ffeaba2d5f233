"""Waiting that ends: what does not happen in time fails the test with a message."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import TypeVar

import pytest

T = TypeVar("T")

_LOOK_EVERY_SECONDS = 0.01


def started(function: Callable[[], T]) -> Future[T]:
    """Run `function` in a thread of its own; one that hangs does not keep the tests from ending."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


def result(future: Future[T], seconds: float, what: str) -> T:
    """Return or raise what `future` ends with."""
    wait([future], seconds)
    if not future.done():
        pytest.fail(f"{what}: no end within {seconds} s")
    return future.result()


def within(seconds: float, what: str, function: Callable[[], T]) -> T:
    """Return or raise what `function` ends with."""
    return result(started(function), seconds, what)


def eventually(seconds: float, what: str, look: Callable[[], T | None]) -> T:
    """Look until there is something to see, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if seen := look():
            return seen
        time.sleep(_LOOK_EVERY_SECONDS)
    pytest.fail(f"{what}: not within {seconds} s")
