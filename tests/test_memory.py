"""How much memory may be taken, on machines and in containers made up from files."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dmsr_cli import memory
from dmsr_cli.memory import FALLBACK, free_memory

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda", 1), torch.device("mps")
MIB = 1 << 20
UNLIMITED_V1 = 9223372036854771712
PAGES = 1000
"""What the made-up sysconf answers."""

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
FilesWriter = Callable[[dict[str, object]], None]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FilesWriter:
    """A POSIX machine that tells nothing but what is written into its /proc and its cgroups."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    answer_sysconf(monkeypatch, {})

    def write(contents: dict[str, object]) -> None:
        for name, content in contents.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode())

    return write


def answer_sysconf(monkeypatch: pytest.MonkeyPatch, values: dict[str, int]) -> None:
    def sysconf(name: str) -> int:
        if name not in values:
            raise ValueError("unrecognized configuration name")
        return values[name]

    monkeypatch.setattr(memory, "os", SimpleNamespace(sysconf=sysconf, fsdecode=os.fsdecode))


def set_limits(monkeypatch: pytest.MonkeyPatch, **limits: int) -> None:
    """Make up soft limits, by their names in the resource module; the others are infinite."""
    resource = pytest.importorskip("resource")
    soft = {getattr(resource, name): limit for name, limit in limits.items()}
    infinite = resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft.get(kind, infinite), infinite))


def meminfo(mebibytes: int) -> str:
    return f"MemTotal: 9999999 kB\nMemFree: 1 kB\nMemAvailable:   {mebibytes * 1024} kB"


def group_v2(path: str, limit: object, used: int = 0, cache: int = 0) -> dict[str, object]:
    """The files of a version 2 group; `path` is empty for the root, else it ends in a slash."""
    return {
        f"cgroup/{path}memory.max": limit,
        f"cgroup/{path}memory.current": used,
        f"cgroup/{path}memory.stat": f"anon 5\ninactive_file {cache}\nactive_file 7",
    }


def group_v1(path: str, limit: object, used: int = 0, cache: int = 0) -> dict[str, object]:
    """The same for version 1, where a group's own cache stands beside the whole tree's."""
    return {
        f"cgroup/memory/{path}memory.limit_in_bytes": limit,
        f"cgroup/memory/{path}memory.usage_in_bytes": used,
        f"cgroup/memory/{path}memory.stat": f"inactive_file 3\ntotal_inactive_file {cache}",
    }


class TestMachine:
    def test_nothing_is_known(self, files):
        assert free_memory(CPU) == FALLBACK == 1 << 30

    def test_linux_counts_what_is_available_not_what_is_free(self, files):
        files({"proc/meminfo": meminfo(300)})
        assert free_memory(CPU) == 300 * MIB

    def test_more_than_the_fallback_is_believed(self, files):
        files({"proc/meminfo": meminfo(50_000)})
        assert free_memory(CPU) == 50_000 * MIB

    def test_no_memory_at_all_is_no_reason_to_guess(self, files, monkeypatch):
        answer_sysconf(monkeypatch, {"SC_AVPHYS_PAGES": PAGES})
        files({"proc/meminfo": meminfo(0)})
        assert free_memory(CPU) == 0

    @pytest.mark.parametrize(
        "content",
        [
            *("", "MemTotal: 5 kB", "MemAvailable:", "MemAvailable: -5 kB", "MemAvailable: 1_0 kB"),
            *("MemAvailable: 1.5 kB", "MemAvailable: " + "9" * 5000, "MemAvailable: ٣ kB"),
            *(b"\xff\xfe\0", b"\0" * 100),
        ],
    )
    def test_unusable_meminfo_leaves_the_free_pages(self, files, monkeypatch, content):
        answer_sysconf(monkeypatch, {"SC_AVPHYS_PAGES": PAGES, "SC_PHYS_PAGES": 9 * PAGES})
        files({"proc/meminfo": content})
        assert free_memory(CPU) == PAGES * mmap.PAGESIZE

    @pytest.mark.parametrize("unknown", [{}, {"SC_AVPHYS_PAGES": -1}])
    def test_half_of_all_pages_where_the_free_ones_are_unknown(self, files, monkeypatch, unknown):
        answer_sysconf(monkeypatch, {"SC_PHYS_PAGES": PAGES, **unknown})
        assert free_memory(CPU) == PAGES // 2 * mmap.PAGESIZE

    def test_pages_that_cannot_be_told(self, files, monkeypatch):
        answer_sysconf(monkeypatch, {"SC_AVPHYS_PAGES": -1, "SC_PHYS_PAGES": -1})
        assert free_memory(CPU) == FALLBACK

    def test_a_folder_in_place_of_each_file(self, files, tmp_path):
        for name in ("meminfo", "self/statm", "self/cgroup"):
            (tmp_path / "proc" / name).mkdir(parents=True)
        for name in ("memory.max", "memory/memory.limit_in_bytes"):
            (tmp_path / "cgroup" / name).mkdir(parents=True)
        assert free_memory(CPU) == FALLBACK


class TestWindows:
    @staticmethod
    def pretend(monkeypatch: pytest.MonkeyPatch, physical: int, page_file: int, works: int) -> None:
        """Answer in the layout that the Windows API documents for MEMORYSTATUSEX."""

        def answer(pointer: object) -> int:
            status = pointer._obj
            assert ctypes.sizeof(status) == 64
            assert struct.unpack_from("=I", bytes(status)) == (64,)
            values = (64, 50, 1 << 40, physical, 1 << 41, page_file, 1 << 47, 1 << 46, 0)
            ctypes.memmove(ctypes.addressof(status), struct.pack("=II7Q", *values), 64)
            return works

        windll = SimpleNamespace(kernel32=SimpleNamespace(GlobalMemoryStatusEx=answer))
        monkeypatch.setattr(ctypes, "windll", windll, raising=False)
        monkeypatch.setattr(memory, "sys", SimpleNamespace(platform="win32"))

    def test_free_physical_memory(self, monkeypatch):
        self.pretend(monkeypatch, physical=5 << 32, page_file=7 << 32, works=1)
        assert free_memory(CPU) == 5 << 32

    def test_what_may_be_committed(self, monkeypatch):
        self.pretend(monkeypatch, physical=5 << 32, page_file=3 << 32, works=1)
        assert free_memory(CPU) == 3 << 32

    def test_a_failed_call(self, monkeypatch):
        self.pretend(monkeypatch, physical=5 << 32, page_file=7 << 32, works=0)
        assert free_memory(CPU) == FALLBACK

    def test_other_parts_do_nothing_there(self, monkeypatch):
        self.pretend(monkeypatch, physical=1, page_file=1, works=1)
        assert memory._posix_memory() == memory._process_limits() == []

    @pytest.mark.skipif(sys.platform == "win32", reason="is about the other systems")
    def test_no_windows_elsewhere(self):
        assert memory._windows_memory() == []


@pytest.mark.parametrize(
    ("group", "line"), [(group_v2, "0::/"), (group_v1, "4:cpu,memory:/")], ids=["v2", "v1"]
)
class TestContainers:
    """What holds for both versions of control groups."""

    @pytest.fixture(autouse=True)
    def _machine(self, files: FilesWriter) -> None:
        files({"proc/meminfo": meminfo(5000)})

    def test_the_limit_counts(self, files, group, line):
        files({"proc/self/cgroup": line + "box", **group("box/", 900 * MIB, used=200 * MIB)})
        assert free_memory(CPU) == 700 * MIB

    def test_the_machine_has_less(self, files, group, line):
        files({"proc/self/cgroup": line + "box", **group("box/", 9000 * MIB, used=200 * MIB)})
        assert free_memory(CPU) == 5000 * MIB

    def test_page_cache_is_not_used(self, files, group, line):
        files({"proc/self/cgroup": line, **group("", 900 * MIB, 200 * MIB, cache=150 * MIB)})
        assert free_memory(CPU) == 850 * MIB

    def test_more_cache_than_use(self, files, group, line):
        files({"proc/self/cgroup": line, **group("", 900 * MIB, 200 * MIB, cache=300 * MIB)})
        assert free_memory(CPU) == 900 * MIB

    @pytest.mark.parametrize("tightest", ["", "a/", "a/b/", "a/b/c/"])
    def test_the_least_of_all_groups_around_counts(self, files, group, line, tightest):
        files({"proc/self/cgroup": line + "a/b/c"})
        for path in ("", "a/", "a/b/", "a/b/c/"):
            files(group(path, 900 * MIB, used=(400 if path == tightest else 100) * MIB))
        assert free_memory(CPU) == 500 * MIB

    def test_groups_beside_do_not_count(self, files, group, line):
        files({"proc/self/cgroup": line + "a", **group("b/", MIB), **group("a/c/", MIB)})
        assert free_memory(CPU) == 5000 * MIB

    @pytest.mark.parametrize("unlimited", ["max", UNLIMITED_V1, 2**63 - 1, 2**64 - 1])
    def test_no_limit(self, files, group, line, unlimited):
        files({"proc/self/cgroup": line + "a", **group("", unlimited), **group("a/", unlimited)})
        assert free_memory(CPU) == 5000 * MIB

    @pytest.mark.parametrize("unlimited", ["max", UNLIMITED_V1, 2**63 - 1, 2**64 - 1])
    def test_no_limit_is_no_memory(self, files, group, line, unlimited):
        files({"proc/self/cgroup": line, "proc/meminfo": "", **group("", unlimited)})
        assert free_memory(CPU) == FALLBACK

    def test_no_limit_inside_a_limit(self, files, group, line):
        files({"proc/self/cgroup": line + "a", **group("", 70 * MIB), **group("a/", UNLIMITED_V1)})
        assert free_memory(CPU) == 70 * MIB

    @pytest.mark.parametrize(
        "path", ["docker/0123/not/here", "../../elsewhere", "a\0b", "n" * 5000, "gone (deleted)"]
    )
    def test_a_path_that_is_not_there_leaves_the_root(self, files, group, line, path):
        files({"proc/self/cgroup": line + path, **group("", 70 * MIB)})
        assert free_memory(CPU) == 70 * MIB

    def test_a_group_outside_of_what_is_seen(self, files, group, line):
        files({"proc/self/cgroup": line + "../outside", **group("", 70 * MIB)})
        files(group("../outside/", MIB))  # what lies there is no group
        assert free_memory(CPU) == 70 * MIB

    @pytest.mark.parametrize("content", ["", "nonsense", ":", "0", "::::", b"\xff\n\n\0"])
    def test_unusable_list_of_groups_leaves_the_root(self, files, group, line, content):
        files({"proc/self/cgroup": content, **group("", 70 * MIB)})
        assert free_memory(CPU) == 70 * MIB

    def test_a_group_whose_name_is_no_text(self, files, group, line, tmp_path):
        try:
            os.mkdir(os.fsencode(tmp_path / "probe-") + b"\xff")  # noqa: PTH102 # a name in bytes
        except OSError:
            pytest.skip("this file system takes text alone")
        name = os.fsdecode(b"box-\xff")
        files({"proc/self/cgroup": os.fsencode(line + name), **group(f"{name}/", 70 * MIB)})
        assert free_memory(CPU) == 70 * MIB

    @pytest.mark.parametrize("limit", ["", "nonsense", "-1", "1e9", "12 34", b"\xff", "9" * 5000])
    def test_unusable_limit(self, files, group, line, limit):
        files({"proc/self/cgroup": line + "a", **group("a/", limit), **group("", 70 * MIB)})
        assert free_memory(CPU) == 70 * MIB

    @pytest.mark.parametrize("use", ["nonsense", "-5", b"\xff"])
    def test_unusable_use_leaves_the_whole_limit(self, files, group, line, use):
        files({"proc/self/cgroup": line, **group("", 70 * MIB, used=use, cache=use)})
        assert free_memory(CPU) == 70 * MIB

    def test_limit_alone(self, files, group, line):
        name = next(iter(group("", 0)))
        files({"proc/self/cgroup": line, name: 70 * MIB})
        assert free_memory(CPU) == 70 * MIB

    def test_statistics_without_the_cache(self, files, group, line):
        files({"proc/self/cgroup": line, **group("", 70 * MIB, used=20 * MIB)})
        statistics = next(name for name in group("", 0) if name.endswith("stat"))
        files({statistics: "anon\ninactive_file\n\ntotal_inactive_file x"})
        assert free_memory(CPU) == 50 * MIB

    def test_more_used_than_allowed(self, files, group, line):
        files({"proc/self/cgroup": line, **group("", 70 * MIB, used=90 * MIB)})
        assert free_memory(CPU) == 0

    def test_a_container_on_a_machine_that_tells_nothing(self, files, group, line):
        files({"proc/self/cgroup": line, "proc/meminfo": "", **group("", 2 * FALLBACK)})
        assert free_memory(CPU) == 2 * FALLBACK


def test_both_versions_at_once(files):
    lines = "9:name=systemd:/x\n4:memory:/one\n1:cpu:/memory\n0::/two"
    files({"proc/self/cgroup": lines, **group_v1("one/", 50 * MIB), **group_v2("two/", 60 * MIB)})
    assert free_memory(CPU) == 50 * MIB
    files(group_v2("two/", 40 * MIB))
    assert free_memory(CPU) == 40 * MIB


def test_other_controllers_of_version_1_have_no_say(files):
    lines = "1:cpu:/a\n2:name=memory:/b\n3:memory:/c"
    files({"proc/self/cgroup": lines, **group_v1("a/", 1), **group_v1("b/", 2)})
    files(group_v1("c/", 3))
    assert free_memory(CPU) == 3


class TestProcessLimits:
    STATM = "100 2 3 4 5 60 7"

    @pytest.mark.parametrize(("name", "used"), [("RLIMIT_AS", 100), ("RLIMIT_DATA", 60)])
    def test_what_is_left(self, files, monkeypatch, name, used):
        set_limits(monkeypatch, **{name: 300 * mmap.PAGESIZE})
        files({"proc/meminfo": meminfo(5000), "proc/self/statm": self.STATM})
        assert free_memory(CPU) == (300 - used) * mmap.PAGESIZE

    def test_the_smaller_counts(self, files, monkeypatch):
        set_limits(monkeypatch, RLIMIT_AS=300 * mmap.PAGESIZE, RLIMIT_DATA=200 * mmap.PAGESIZE)
        files({"proc/meminfo": meminfo(5000), "proc/self/statm": self.STATM})
        assert free_memory(CPU) == 140 * mmap.PAGESIZE

    @pytest.mark.parametrize("content", ["", "x", "-4 1 2 3 4 -5", b"\xff"])
    def test_unknown_use_leaves_the_whole_limit(self, files, monkeypatch, content):
        set_limits(monkeypatch, RLIMIT_AS=300 * MIB)
        files({"proc/self/statm": content})
        assert free_memory(CPU) == 300 * MIB

    def test_more_used_than_allowed(self, files, monkeypatch):
        set_limits(monkeypatch, RLIMIT_AS=50 * mmap.PAGESIZE)
        files({"proc/self/statm": self.STATM})
        assert free_memory(CPU) == 0

    def test_a_huge_limit_is_none(self, files, monkeypatch):
        set_limits(monkeypatch, RLIMIT_AS=2**63 - 1, RLIMIT_DATA=2**64 - 1)
        assert free_memory(CPU) == FALLBACK

    def test_a_system_without_a_limit_on_address_space(self, files, monkeypatch):
        set_limits(monkeypatch, RLIMIT_DATA=200 * MIB)
        monkeypatch.delattr("resource.RLIMIT_AS")
        assert free_memory(CPU) == 200 * MIB

    @on_linux
    @pytest.mark.parametrize(("name", "column"), [("RLIMIT_AS", 0), ("RLIMIT_DATA", 5)])
    def test_the_system_keeps_to_it(self, name, column):
        """A little less than what is said to be free can be had, a little more cannot."""
        program = (
            "import mmap, resource, torch\n"
            "from dmsr_cli.memory import free_memory\n"
            "def take(size):\n"
            "    mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()\n"
            f"used = int(open('/proc/self/statm').read().split()[{column}]) * mmap.PAGESIZE\n"
            f"resource.setrlimit(resource.{name}, (used + {64 * MIB},) * 2)\n"
            "free = free_memory(torch.device('cpu'))\n"
            f"take(free - {4 * MIB})\n"
            "try:\n"
            f"    take(free + {4 * MIB})\n"
            "except OSError:\n"
            "    print(free)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(Path(memory.__file__).parents[1])},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-1000:]
        assert 56 * MIB < int(done.stdout) <= 72 * MIB


class TestDevices:
    @staticmethod
    def pretend_cuda(monkeypatch: pytest.MonkeyPatch, **figures: int) -> None:
        """Answer for device 1 alone; other devices have nothing."""

        def answer(figure: int) -> Callable[[torch.device], int]:
            return lambda device: figure if device.index == 1 else 0

        free = answer(figures["free"])
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free(device), 1 << 40))
        monkeypatch.setattr(torch.cuda, "memory_reserved", answer(figures["reserved"]))
        monkeypatch.setattr(torch.cuda, "memory_allocated", answer(figures["allocated"]))

    def test_cuda_adds_what_torch_keeps_unused(self, files, monkeypatch):
        self.pretend_cuda(monkeypatch, free=4000 * MIB, reserved=300 * MIB, allocated=100 * MIB)
        assert free_memory(CUDA) == 4200 * MIB

    def test_cuda_has_memory_of_its_own(self, files, monkeypatch):
        self.pretend_cuda(monkeypatch, free=4000 * MIB, reserved=0, allocated=0)
        files({"proc/meminfo": meminfo(10), **group_v2("", MIB)})
        assert free_memory(CUDA) == 4000 * MIB

    def test_never_negative(self, files, monkeypatch):
        self.pretend_cuda(monkeypatch, free=0, reserved=1, allocated=5)
        assert free_memory(CUDA) == 0
        self.pretend_mps(monkeypatch, most=100 * MIB, taken=300 * MIB)
        assert free_memory(MPS) == 0

    @staticmethod
    def pretend_mps(monkeypatch: pytest.MonkeyPatch, most: int, taken: int) -> None:
        monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: most)
        monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: taken)

    def test_mps(self, files, monkeypatch):
        self.pretend_mps(monkeypatch, most=4000 * MIB, taken=300 * MIB)
        assert free_memory(MPS) == 3700 * MIB

    def test_mps_shares_the_memory_of_the_system(self, files, monkeypatch):
        self.pretend_mps(monkeypatch, most=PAGES * mmap.PAGESIZE, taken=0)
        answer_sysconf(monkeypatch, {"SC_PHYS_PAGES": PAGES})
        assert free_memory(MPS) == PAGES // 2 * mmap.PAGESIZE

    @pytest.mark.parametrize("missing", ["recommended_max_memory", "current_allocated_memory"])
    def test_mps_that_tells_nothing(self, files, monkeypatch, missing):
        self.pretend_mps(monkeypatch, most=1, taken=0)
        monkeypatch.delattr(torch.mps, missing)
        files({"proc/meminfo": meminfo(300)})
        assert free_memory(MPS) == 300 * MIB


class TestThisMachine:
    @on_linux
    def test_no_more_than_the_kernel_says(self):
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        total, available = (
            int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable")
        )
        # Other processes come and go meanwhile; a container may leave far less.
        assert 0 < free_memory(CPU) < min(total, available + total / 4)

    def test_any_system(self):
        assert 0 < free_memory(CPU) < memory.NO_LIMIT
        assert memory._system_memory()  # not guessed

    @pytest.mark.cuda
    def test_cuda_counts_what_torch_took_and_what_it_kept(self):
        device = torch.device("cuda")
        torch.cuda.empty_cache()
        before = free_memory(device)
        tensor = torch.empty(256 * MIB, dtype=torch.uint8, device=device)
        held = before - free_memory(device)
        del tensor
        kept = before - free_memory(device)
        assert 192 * MIB < held < 320 * MIB
        assert abs(kept) < 64 * MIB
