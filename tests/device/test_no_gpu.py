"""A GPU that is asked for where there is none."""

from __future__ import annotations

import pytest
from cluster import session
from deadline import within
from flambeau.errors import ConfigException, MemoryException
from points import estimator, points
from stand_in import stand_in

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


def test_a_gpu_without_room_for_a_fit_says_what_to_do():
    settings = {
        "spark.flambeau.libtorch": str(stand_in()),
        "spark.executorEnv.FLAMBEAU_STAND_IN_BYTES": "1000",
    }
    with session("local-cluster[1,1,1024]", settings) as spark:
        data = points(spark, [20])
        with pytest.raises(MemoryException) as caught:
            stage = estimator(device="cuda", numWorkers=1)
            within(DEADLINE_SECONDS, "a fit in a small GPU", lambda: stage.fit(data))
        message = str(caught.value)
        assert "GPU" in message
        assert "batchSize" in message
