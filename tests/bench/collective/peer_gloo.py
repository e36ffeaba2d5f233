"""Times gloo's allreduce: `peer_gloo.py RANK RANKS FILE BYTES...`; one JSON line for each."""

import sys

import torch
import torch.distributed as dist
from rounds import measure

rank, ranks, meeting = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)


def prepare(elements: int):
    """One call of allreduce on as many float32, in place."""
    data = torch.zeros(elements)
    return lambda: dist.all_reduce(data)


measure(prepare, rank, ranks, [int(size) for size in sys.argv[4:]])
dist.destroy_process_group()
