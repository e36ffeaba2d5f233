"""Clusters that cannot train, and what the user is told."""

from __future__ import annotations

import time

import pytest
from cluster import LIBTORCH, session
from deadline import within
from flambeau.errors import ConfigException, NativeLoadException
from points import estimator, points

DEADLINE_SECONDS = 60
REFUSED_SECONDS = 2


def test_a_missing_libtorch_lists_the_places_and_the_fix_and_is_found_once_it_is_there(tmp_path):
    folder = tmp_path / "libtorch"
    folder.mkdir()
    settings = {"spark.flambeau.libtorch": str(folder)}
    with session("local-cluster[2,1,1024]", settings) as spark:
        data = points(spark, [100, 100])
        with pytest.raises(NativeLoadException) as caught:
            within(DEADLINE_SECONDS, "a fit without libtorch", lambda: estimator().fit(data))
        message = str(caught.value)
        assert "libtorch 2.11.0 was not found. Looked at:" in message
        assert f"spark.flambeau.libtorch={folder}: no readable libtorch_cpu.so" in message
        assert "Fix: pip install torch==2.11.0" in message

        (folder / "lib").symlink_to(LIBTORCH)
        model = within(DEADLINE_SECONDS, "a fit with libtorch", lambda: estimator().fit(data))
        assert len(model.history["loss"]) == 2


def test_dynamic_allocation_is_refused_at_once_with_the_setting_to_change():
    settings = {"spark.dynamicAllocation.enabled": "true"}
    with session("local-cluster[1,1,1024]", settings) as spark:
        data = points(spark, [10])
        stage = estimator(numWorkers=1)
        begin = time.monotonic()
        with pytest.raises(ConfigException) as caught:
            within(DEADLINE_SECONDS, "a fit with dynamic allocation", lambda: stage.fit(data))
        assert time.monotonic() - begin < REFUSED_SECONDS
        message = str(caught.value)
        assert "spark.dynamicAllocation.enabled=true" in message
        assert "Try: --conf spark.dynamicAllocation.enabled=false" in message
