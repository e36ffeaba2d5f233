"""Copies memory on all cores at once: prints the bytes a second that all of them copy together."""

import multiprocessing
import os
import time

import numpy as np

BYTES = 256 << 20
SECONDS = 1.0


def copy(barrier, counts) -> None:
    """Copies from one array to another that no cache holds, for a second."""
    source, target = np.ones(BYTES, np.uint8), np.ones(BYTES, np.uint8)
    barrier.wait()
    started, copies = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        np.copyto(target, source)
        copies += 1
    counts.put(copies * BYTES / (time.perf_counter() - started))


def main() -> None:
    """One process for each core that this one may use."""
    cores = len(os.sched_getaffinity(0))
    barrier, counts = multiprocessing.Barrier(cores), multiprocessing.Queue()
    copiers = [multiprocessing.Process(target=copy, args=(barrier, counts)) for _ in range(cores)]
    for copier in copiers:
        copier.start()
    print(sum(counts.get() for _ in copiers))
    for copier in copiers:
        copier.join()


if __name__ == "__main__":
    main()
