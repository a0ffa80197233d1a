"""Several processes that train one model, as torchrun starts them.

Each process has a device, draws its own patches, and computes gradients, which are averaged. The
first one, rank 0, keeps the average of the weights, validates, reports and writes files.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed

from dmsr_cli.errors import TrainingError
from dmsr_cli.processes import (
    check_launch,
    launched_rank,
    launched_size,
    lost_contact,
    meeting_place,
    own_device,
)


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


@contextlib.contextmanager
def join_world(device: torch.device) -> Iterator[tuple[World, torch.device]]:
    """Find the other processes, if torchrun started any, and this process's own device.

    Raises:
        SettingsError: the processes cannot share the device, or were not started by torchrun.
        TrainingError: the others could not be reached, or one of them went away. The process
            should end then, and cannot join again.
    """
    size = launched_size()
    if size == 1:
        yield World(), device
        return
    check_launch()
    world = World(launched_rank(), size)
    device = own_device(device)
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    # A thread of gloo that still has to give back something of Python's aborts the process if
    # Python has ended: after a failure this was seen in one run of ten.
    atexit.register(time.sleep, 0.5)
    try:
        torch.distributed.init_process_group(
            backend, store=meeting_place(world.rank, size), rank=world.rank, world_size=world.size
        )
        yield world, device
    except RuntimeError as error:
        if not lost_contact(error):
            raise
        raise TrainingError(
            f"process {world.rank} of {world.size} lost the others: go on with --resume"
        ) from error
    # Not after an error: NCCL would wait for the others here, and they for this process.
    with contextlib.suppress(RuntimeError):  # somebody may be gone, but all is done
        torch.distributed.destroy_process_group()
