"""Several processes that train one model, as torchrun starts them.

Each process has a device, draws its own patches, and computes gradients, which are averaged. The
first one, rank 0, keeps the average of the weights, validates, reports and writes files.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed

from dmsr_cli.errors import SettingsError, TrainingError

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store


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
    return int(os.environ.get("RANK", "0")) if _launched_size() > 1 else 0


@contextlib.contextmanager
def join_world(device: torch.device) -> Iterator[tuple[World, torch.device]]:
    """Find the other processes, if torchrun started any, and this process's own device.

    Raises:
        SettingsError: the processes cannot share the device, or were not started by torchrun.
        TrainingError: the others could not be reached, or one of them went away. The process
            should end then, and cannot join again.
    """
    size = _launched_size()
    if size == 1:
        yield World(), device
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise SettingsError(
            f"WORLD_SIZE is {size}, but {missing[0]} is not set: use torchrun, or unset WORLD_SIZE"
        )
    world = World(launched_rank(), size)
    device = _own_device(device)
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    # A thread of gloo that still has to give back something of Python's aborts the process if
    # Python has ended: after a failure this was seen in one run of ten.
    atexit.register(time.sleep, 0.5)
    try:
        torch.distributed.init_process_group(
            backend, store=meeting_place(world), rank=world.rank, world_size=world.size
        )
        yield world, device
    except RuntimeError as error:
        if not _lost_contact(error):
            raise
        raise TrainingError(
            f"process {world.rank} of {world.size} lost the others: go on with --resume"
        ) from error
    # Not after an error: NCCL would wait for the others here, and they for this process.
    with contextlib.suppress(RuntimeError):  # somebody may be gone, but all is done
        torch.distributed.destroy_process_group()


def meeting_place(world: World) -> Store:
    """The store in which the processes find each other's addresses; waits for all of them.

    torchrun keeps its store when it restarts them, with the addresses of those that are gone.
    So each start of all processes takes a part of the store with a new name. The first process
    makes it up, and tells it to everyone who asks: each with a word of its own, because an answer
    that is there already may be an old one.
    """
    # Here, because some builds of PyTorch have none of it, and train with one process.
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://"))
    if world.leads:
        name = secrets.token_hex(8)
        while store.add(f"dmsr/here/{name}", 0) < world.size - 1:
            for rank in range(1, world.size):
                question = f"dmsr/question/{rank}"
                if store.check([question]):
                    store.set(f"dmsr/answer/{store.get(question).decode()}", name)
            time.sleep(0.05)
    else:
        word = secrets.token_hex(8)
        store.set(f"dmsr/question/{world.rank}", word)
        name = store.get(f"dmsr/answer/{word}").decode()  # waits until it is there
        store.add(f"dmsr/here/{name}", 1)
    return PrefixStore(name, store)


def _launched_size() -> int:
    """How many processes torchrun started, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _own_device(device: torch.device) -> torch.device:
    """The GPU of this process; the CPU is everybody's."""
    if device.type == "cpu":
        return device
    if device.type != "cuda" or device.index is not None:
        raise SettingsError(
            f"several processes cannot share {device}: use --device cuda, where each takes its "
            "own, or --device cpu"
        )
    index = int(os.environ.get("LOCAL_RANK", "0"))
    # All processes of this machine refuse, not only the one that is too many: the first speaks.
    processes = max(index + 1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    count = torch.cuda.device_count()
    if processes > count:
        raise SettingsError(
            f"torchrun started more processes than there are GPUs here ({count}): "
            f"use --nproc-per-node={count}"
        )
    return torch.device("cuda", index)


def _lost_contact(error: BaseException) -> bool:
    """Whether an error came from the network between the processes."""
    words = ("gloo", "Gloo", "NCCL", "TCPStore", "Connection")
    return isinstance(error, torch.distributed.DistError) or any(
        word in str(error) for word in words
    )
