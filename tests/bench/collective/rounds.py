"""How a peer's calls are timed: as `allreduce_bench` times ours."""

import json
import statistics
import time
from collections.abc import Callable

ROUNDS = 5


def measure(
    prepare: Callable[[int], Callable[[], object]], rank: int, ranks: int, sizes: list[int]
) -> None:
    """Prints the median microseconds of a call for each size in bytes, on rank 0."""
    for size in sizes:
        call = prepare(size // 4)
        calls = min(max(60_000_000 // max(size, 20_000), 2), 2_000)
        if ranks > 2:
            # Peers that need milliseconds for the smallest vectors would take minutes.
            calls = max(2, calls // 20)
        for _ in range(-(-calls // 4)):
            call()
        rounds = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            for _ in range(calls):
                call()
            rounds.append((time.perf_counter() - started) * 1e6 / calls)
        if rank == 0:
            microseconds = round(statistics.median(rounds), 1)
            print(json.dumps({"ranks": ranks, "bytes": size, "us": microseconds}), flush=True)
