"""Where a process stands among those that torchrun started, and how it finds the others."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dmsr_cli.errors import SettingsError

if TYPE_CHECKING:
    import torch
    from torch.distributed.distributed_c10d import Store

BEAT_EVERY = 0.5
"""Seconds between two signs of life."""
LEFT = -(1 << 40)
"""Added to the count of a process's signs of life when it leaves."""
MEETING_PATIENCE = 300.0
"""Seconds in which all processes must have come; torch's own waiting ends then, too."""


def launched_size() -> int:
    """How many processes torchrun started, on all machines; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_rank() -> int:
    """The rank that torchrun gave this process; 0 without torchrun."""
    return int(os.environ.get("RANK", "0")) if launched_size() > 1 else 0


def launched_here() -> int:
    """How many processes torchrun started on this machine; 1 without torchrun."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if launched_size() > 1 else 1


def check_launch() -> None:
    """Raise SettingsError where a process cannot find the others."""
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if launched_size() > 1 and missing:
        raise SettingsError(
            f"WORLD_SIZE is {launched_size()}, but {missing[0]} is not set: use torchrun, or unset "
            "WORLD_SIZE"
        )


def own_device(device: torch.device) -> torch.device:
    """The GPU of this process; the CPU is everybody's.

    Raises:
        SettingsError: the processes cannot share the device.
    """
    import torch

    if device.type == "cpu":
        return device
    if device.type != "cuda" or device.index is not None:
        raise SettingsError(
            f"several processes cannot share {device}: use --device cuda, where each takes its "
            "own, or --device cpu"
        )
    index = int(os.environ.get("LOCAL_RANK", "0"))
    # All processes of this machine refuse, not only the one that is too many: the first speaks.
    processes = max(index + 1, launched_here())
    count = torch.cuda.device_count()
    if processes > count:
        raise SettingsError(
            f"torchrun started more processes than there are GPUs here ({count}): "
            f"use --nproc-per-node={count}"
        )
    return torch.device("cuda", index)


def meeting_place(rank: int, size: int) -> Store:
    """The store in which the processes leave words for each other; waits for all of them.

    torchrun keeps its store when it restarts them, with the words of those that are gone.
    So each start of all processes takes a part of the store with a new name. The first process
    makes it up, and tells it to everyone who asks: each with a word of its own, because an answer
    that is there already may be an old one.
    """
    # Here, because some builds of PyTorch have none of it, and work with one process.
    from torch.distributed import DistStoreError
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://"))
    if rank == 0:
        name = secrets.token_hex(8)
        give_up = time.monotonic() + MEETING_PATIENCE
        while store.add(f"dmsr/here/{name}", 0) < size - 1:
            if time.monotonic() > give_up:
                raise DistStoreError(f"not all {size} processes came")
            for other in range(1, size):
                question = f"dmsr/question/{other}"
                if store.check([question]):
                    store.set(f"dmsr/answer/{store.get(question).decode()}", name)
            time.sleep(0.05)
    else:
        word = secrets.token_hex(8)
        store.set(f"dmsr/question/{rank}", word)
        name = store.get(f"dmsr/answer/{word}").decode()  # waits until it is there
        store.add(f"dmsr/here/{name}", 1)
    return PrefixStore(name, store)


def lost_contact(error: BaseException) -> bool:
    """Whether an error came from the network between the processes."""
    import torch.distributed

    words = ("gloo", "Gloo", "NCCL", "TCPStore", "Connection")
    return isinstance(error, torch.distributed.DistError) or any(
        word in str(error) for word in words
    )


class Pulses:
    """Signs of life: each process counts its own up, and looks at those of others."""

    def __init__(self, store: Store, rank: int) -> None:
        self._store = store
        self._rank = rank
        self._seen: dict[int, tuple[int, float]] = {}
        self._over = threading.Event()

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Count up while the block runs, in a thread."""
        thread = threading.Thread(target=self._beat, name="dmsr-pulse", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def leave(self) -> None:
        """Say that this process has nothing more to do; it must not use the store after that."""
        self._over.set()
        self._store.add(f"pulse/{self._rank}", LEFT)

    def is_at_work(self, rank: int, patience: float) -> bool:
        """Neither has it left, nor was it silent for longer than `patience` (in seconds)."""
        count = self._store.add(f"pulse/{rank}", 0)
        last, since = self._seen.get(rank, (None, 0.0))
        if count != last:
            since = time.monotonic()
            self._seen[rank] = count, since
        return count >= 0 and time.monotonic() - since < patience

    def is_felt(self, rank: int, patience: float) -> bool:
        """Wait for a sign of life."""
        before, give_up = self._store.add(f"pulse/{rank}", 0), time.monotonic() + patience
        while time.monotonic() < give_up:
            if self._store.add(f"pulse/{rank}", 0) != before:
                return True
            time.sleep(BEAT_EVERY / 5)
        return False

    def _beat(self) -> None:
        with contextlib.suppress(RuntimeError):  # who works meets the same, and says so
            while not self._over.wait(BEAT_EVERY):
                self._store.add(f"pulse/{self._rank}", 1)
