"""Times Open MPI's allreduce: started by mpirun, `peer_mpi.py BYTES...`; one JSON line for each."""

import sys

import numpy as np
from mpi4py import MPI
from rounds import measure

world = MPI.COMM_WORLD


def prepare(elements: int):
    """One call of allreduce on as many float32, in place."""
    data = np.zeros(elements, np.float32)
    return lambda: world.Allreduce(MPI.IN_PLACE, data, MPI.SUM)


measure(prepare, world.rank, world.size, [int(size) for size in sys.argv[1:]])
