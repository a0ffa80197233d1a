"""Several processes that train one model, as torchrun starts them.

Each process has a device, draws its own patches, and computes gradients, which are averaged. The
first one, rank 0, keeps the average of the weights, validates, reports and writes files.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed

from dmsr_cli.errors import SettingsError, TrainingError


@dataclass(frozen=True)
class World:
    """The processes that train together; one alone needs nothing of `torch.distributed`."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that reports and writes."""
        return self.rank == 0

    @property
    def rate_factor(self) -> float:
        """Factor on the learning rate: the square root of how much larger the batch is.

        The batch of a step grows with the processes. For Adam its noise then stays what it was
        when the rate grows with the square root (Malladi et al., NeurIPS 2022).
        """
        return math.sqrt(self.size)

    def agree(self, done: float, stop: bool) -> tuple[float, bool]:
        """The same answer in all processes: how far rank 0's clock is, whether anyone must stop."""
        if self.size == 1:
            return done, stop
        # On the CPU, whatever the device is: that does not wait for the device.
        answer = torch.tensor([done if self.leads else 0.0, float(stop)], dtype=torch.float64)
        torch.distributed.all_reduce(answer, torch.distributed.ReduceOp.MAX)
        return float(answer[0]), bool(answer[1])

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.size > 1:
            self.agree(0.0, False)


def launched_rank() -> int:
    """The rank that torchrun gave this process; 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


@contextlib.contextmanager
def join_world(device: torch.device) -> Iterator[tuple[World, torch.device]]:
    """Find the other processes, if torchrun started any, and this process's own device.

    Raises:
        TrainingError: the others could not be reached, or one of them went away.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(), device
        return
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", _local_device())
        torch.cuda.set_device(device)
    world = World(launched_rank(), size)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        torch.distributed.init_process_group(backend)
        yield world, device
    except RuntimeError as error:
        if not _lost_contact(error):
            raise
        raise TrainingError(
            f"process {world.rank} of {world.size} lost the others: go on with --resume"
        ) from error
    finally:
        with contextlib.suppress(Exception):  # may be what failed in the first place
            torch.distributed.destroy_process_group()


def _local_device() -> int:
    index = int(os.environ.get("LOCAL_RANK", "0"))
    count = torch.cuda.device_count()
    if index >= count:
        raise SettingsError(
            f"torchrun started more processes than there are GPUs here ({count}): "
            f"use --nproc-per-node={count}"
        )
    return index


def _lost_contact(error: BaseException) -> bool:
    """Whether an error came from the network between the processes."""
    words = ("gloo", "Gloo", "NCCL", "TCPStore", "Connection")
    return isinstance(error, torch.distributed.DistError) or any(
        word in str(error) for word in words
    )
