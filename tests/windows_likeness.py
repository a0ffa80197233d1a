"""Makes this process as like one on Windows as another system can be; run as a program.

`python windows_likeness.py ARGUMENTS` runs dmsr with them. Without any, it imports every module of
the package. What Windows lacks is gone, paths stay those of this system, and a file that is open
can be neither renamed nor removed.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib
import multiprocessing.popen_spawn_posix  # noqa: F401
import os
import pathlib
import pkgutil
import signal
import sys
import types
from collections.abc import Callable
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

# What is not of this package has to believe in the system that is really there.
import click  # noqa: F401
import huggingface_hub.hub_mixin  # noqa: F401
import imagecodecs  # noqa: F401
import imageio  # noqa: F401
import PIL.Image
import rich.live
import rich.progress  # noqa: F401
import safetensors.torch  # noqa: F401
import tifffile  # noqa: F401
import torch.distributed  # noqa: F401

FOREIGN_MODULES = ("fcntl", "resource", "grp", "pwd", "termios", "tty", "pty", "readline")
FOREIGN_FUNCTIONS = (
    *("chown", "fchmod", "fchown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getpgid"),
    *("getuid", "killpg", "mkfifo", "nice", "register_at_fork", "sched_getaffinity"),
    *("sched_setaffinity", "setsid", "statvfs", "sysconf", "uname", "getloadavg"),
    *("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC"),
)
ERROR_LOCK_VIOLATION = 33
FOREIGN_SIGNALS = ("SIGHUP", "SIGALRM", "SIGUSR1", "SIGXCPU", "pthread_sigmask", "alarm")


def pretend() -> None:
    """Take away what Windows lacks, and give its modules."""
    PIL.Image.init()
    resource_tracker.ensure_running()  # needs pthread_sigmask, which Windows does without
    for name in FOREIGN_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for module, names in ((os, FOREIGN_FUNCTIONS), (signal, FOREIGN_SIGNALS)):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    runtime: Any = types.ModuleType("msvcrt")
    runtime.get_osfhandle = lambda descriptor: descriptor
    sys.modules["msvcrt"] = runtime
    kernel = types.SimpleNamespace(LockFile=locking())
    ctypes.WinDLL = lambda name, use_last_error: kernel  # type: ignore[attr-defined]
    ctypes.get_last_error = lambda: ERROR_LOCK_VIOLATION  # type: ignore[attr-defined]
    ctypes.windll = types.SimpleNamespace(  # type: ignore[attr-defined]
        kernel32=types.SimpleNamespace(GlobalMemoryStatusEx=lambda status: 0)
    )
    for name in ("rename", "replace", "unlink", "remove"):
        setattr(os, name, refusing_open_files(getattr(os, name)))
    pathlib.WindowsPath = pathlib.PosixPath  # type: ignore[misc]
    sys.platform, os.name = "win32", "nt"


def locking() -> Callable[..., bool]:
    """Windows' LockFile: a lock stays until its file is closed, and keeps all others away."""
    flock, exclusively, at_once = fcntl.flock, fcntl.LOCK_EX, fcntl.LOCK_NB

    def lock_file(handle: int, low: int, high: int, size: int, size_high: int) -> bool:
        size_of_file = os.fstat(handle).st_size
        assert low + 2**32 * high > 2**31 + size_of_file, "results may be larger than that"
        assert (size, size_high) == (1, 0)
        try:
            flock(handle, exclusively | at_once)
        except BlockingIOError:
            return False
        return True

    return lock_file


def refusing_open_files(function: Callable[..., None]) -> Callable[..., None]:
    """The function, but not for what this process holds open."""

    def checked(path: Any, *others: Any, **options: Any) -> None:
        whole = str(Path(path).parent.resolve() / Path(path).name)
        for descriptor in Path("/proc/self/fd").iterdir():
            is_open = False
            with contextlib.suppress(OSError):  # it may be closed by now
                is_open = str(descriptor.readlink()) == whole
            if is_open:
                raise PermissionError(13, f"it is open ({function.__name__})", str(path))
        function(path, *others, **options)

    return checked


def main(arguments: list[str]) -> int:
    """Run dmsr, or import all of it."""
    pretend()
    import dmsr_cli

    if arguments:
        from dmsr_cli.cli.main import main as run

        return run(arguments)
    names = [found.name for found in pkgutil.walk_packages(dmsr_cli.__path__, "dmsr_cli.")]
    for name in names:
        if not name.endswith("__main__"):
            importlib.import_module(name)
    print(len(names))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
