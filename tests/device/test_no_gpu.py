"""A GPU that is asked for where there is none."""

from __future__ import annotations

import pytest
from cluster import session
from deadline import within
from flambeau.errors import ConfigException
from points import estimator, points

DEADLINE_SECONDS = 120


def test_a_machine_that_cannot_use_gpus_says_so():
    # The wheel is one for CUDA, installed without NVIDIA's libraries.
    with session("local-cluster[1,1,1024]") as spark:
        data = points(spark, [20])
        with pytest.raises(ConfigException) as caught:
            stage = estimator(device="cuda", numWorkers=1)
            within(DEADLINE_SECONDS, "a fit without a GPU", lambda: stage.fit(data))
        message = str(caught.value)
        assert "libtorch_cuda.so does not load: lib" in message
        assert "set device to 'auto'" in message
