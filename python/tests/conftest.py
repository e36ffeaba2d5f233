"""Fixtures of all tests of the package."""

import pytest


@pytest.fixture(scope="module")
def keras():
    """Keras, imported only where a test is about its objects: TensorFlow takes seconds."""
    import keras

    return keras
