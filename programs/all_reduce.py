"""NCCL's all-reduce between nodes: what the rails carry for a model that spans them.

The text of this file runs in a container on each node: it has PyTorch and the standard library. It reads RANK,
WORLD_SIZE, MASTER_ADDR and MASTER_PORT as torchrun sets them, and GB10_MEGABYTES; rank 0 prints
{"busbw_gbps", "megabytes", "ranks"} as JSON. The buffer is small on purpose: 16 GB have frozen a node.
"""

import datetime
import json
import os
import time

import torch  # type: ignore[import-not-found] # only the container has it
import torch.distributed as dist  # type: ignore[import-not-found] # likewise

ROUNDS = 50
WARM_UP = 10
MOST_MEGABYTES = 128
JOIN_SECONDS = 120


def main() -> None:
    """Sum a buffer over all ranks again and again; print how fast that was."""
    megabytes = min(int(os.environ["GB10_MEGABYTES"]), MOST_MEGABYTES)
    dist.init_process_group("nccl", timeout=datetime.timedelta(seconds=JOIN_SECONDS))
    rank, ranks = dist.get_rank(), dist.get_world_size()
    buffer = torch.ones(megabytes * 250_000, dtype=torch.float32, device="cuda")
    for _ in range(WARM_UP):
        dist.all_reduce(buffer, op=dist.ReduceOp.AVG)
    torch.cuda.synchronize()
    begin = time.monotonic()
    for _ in range(ROUNDS):
        dist.all_reduce(buffer, op=dist.ReduceOp.AVG)
    torch.cuda.synchronize()
    seconds = (time.monotonic() - begin) / ROUNDS
    if not bool((buffer == 1).all()):
        raise SystemExit("the sums are wrong")
    if rank == 0:
        # what nccl-tests calls bus bandwidth: the rate of the links, whatever the number of ranks
        rate = megabytes * 8e6 / seconds / 1e9 * 2 * (ranks - 1) / ranks
        print(json.dumps({"busbw_gbps": round(rate, 2), "megabytes": megabytes, "ranks": ranks}), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
