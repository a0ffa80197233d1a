"""Packing into parts and unpacking, with a Python that has nothing but its standard library."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

TOOL = Path(__file__).parent.parent / "tools" / "parts.py"
KIBIBYTE = 1 / 1024
"""One KiB in MiB, as the options have it."""
PART = 10_240
"""Bytes in a part, in most tests here. It is tar's record, so that whole parts happen."""
PART_OPTION = ("--part-size", 10 * KIBIBYTE)
needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files")

sys.dont_write_bytecode, _previous = True, sys.dont_write_bytecode
_spec = importlib.util.spec_from_file_location("parts", TOOL)
assert _spec is not None
assert _spec.loader is not None
tool = importlib.util.module_from_spec(_spec)
sys.modules["parts"] = tool  # dataclasses look their module up
_spec.loader.exec_module(tool)
sys.dont_write_bytecode = _previous


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The tool in a Python without site-packages, environment and current folder."""
    return subprocess.run(
        [sys.executable, "-I", "-S", str(TOOL), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def succeed(*arguments: object, cwd: Path) -> str:
    done = run(*arguments, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    return done.stdout


def refused(*arguments: object, cwd: Path) -> str:
    """The one line that a failure prints; and nothing in the folder has changed."""
    before = content_of(cwd)
    done = run(*arguments, cwd=cwd)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert content_of(cwd) == before
    return done.stderr.removeprefix("parts.py: ").rstrip()


def content_of(folder: Path) -> dict[str, bytes | None]:
    """All that is below a folder, hidden things too; None for folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in content_of(folder).items() if data is not None}


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def random_bytes(size: int, seed: int = 0) -> bytes:
    return b"".join(
        hashlib.sha256(f"{seed} {block}".encode()).digest() for block in range(size // 32 + 1)
    )[:size]


FILES = {
    "top.bin": random_bytes(3 * PART + 17),
    "data/empty": b"",
    "data/one": b"1",
    "data/block": random_bytes(512, 1),
    "data/deep/er/still/odd.bin": random_bytes(PART - 1, 2),
    "data/größe 日本 🙂.txt": b"unicode\n",
    "data/" + "long" * 40 + "/" + "name" * 30: b"longer than a plain tar header has room for",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write(tmp_path, FILES)
    return tmp_path


@pytest.fixture
def packed(source: Path) -> Path:
    """The folder with FILES, and with out/job.json and its parts."""
    succeed("pack", "out", "top.bin", "data", "--name", "job", *PART_OPTION, cwd=source)
    return source


def test_round_trip(packed):
    parts = sorted((packed / "out").glob("job.[0-9]*"))
    assert len(parts) >= 5
    assert [part.name for part in parts] == [f"job.{number:03}" for number in range(len(parts))]
    assert all(part.stat().st_size == PART for part in parts)  # tar fills up to its record
    assert sorted(path.name for path in (packed / "out").iterdir())[-1] == "job.json"
    assert len(list((packed / "out").iterdir())) == len(parts) + 1
    line = succeed("unpack", "out/job.json", "-o", "back", cwd=packed)
    assert line.startswith(f"back: {len(FILES)} files, ")
    assert files_of(packed / "back") == FILES


@pytest.mark.parametrize("size", [3000, PART - 1, PART + 1, 2 * PART, 10 * PART])
def test_parts_have_the_size_asked_for(source, size):
    option = ("--part-size", size / 2**20)
    succeed("pack", "out", "top.bin", *option, cwd=source)
    sizes = [path.stat().st_size for path in sorted((source / "out").glob("parts.[0-9]*"))]
    assert all(part == size for part in sizes[:-1])
    assert 0 < sizes[-1] <= size
    assert sum(sizes) % PART == 0
    succeed("unpack", "out/parts.json", "-o", "back", cwd=source)
    assert files_of(source / "back") == {"top.bin": FILES["top.bin"]}


def test_the_manifest_lists_parts_and_files(packed):
    manifest = json.loads((packed / "out" / "job.json").read_text())
    for entry in manifest["parts"]:
        data = (packed / "out" / entry["name"]).read_bytes()
        assert (entry["size"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert [entry["name"] for entry in manifest["files"]] == sorted(FILES)
    for entry in manifest["files"]:
        data = FILES[entry["name"]]
        assert (entry["size"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_the_same_files_give_the_same_bytes(packed):
    for path in packed.rglob("*"):
        if path.is_file():
            os.utime(path, (1e9, 1e9))
    succeed("pack", "again", "data", "top.bin", "--name", "job", *PART_OPTION, cwd=packed)
    assert files_of(packed / "again") == files_of(packed / "out")


@needs_posix
def test_only_the_permission_to_run_goes_along(tmp_path):
    write(tmp_path, {"run.sh": b"#!/bin/sh\n", "secret": b"plain"})
    (tmp_path / "run.sh").chmod(0o700)
    (tmp_path / "secret").chmod(0o600)
    succeed("pack", "out", "run.sh", "secret", cwd=tmp_path)
    previous = os.umask(0o022)
    try:
        succeed("unpack", "out/parts.json", "-o", "back", cwd=tmp_path)
    finally:
        os.umask(previous)
    assert (tmp_path / "back" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "back" / "secret").stat().st_mode & 0o777 == 0o644


def names_packed(output: Path) -> list[str]:
    return [entry["name"] for entry in json.loads(output.read_text())["files"]]


def test_hidden_things_and_caches_are_left_out(tmp_path):
    kept = {"a/b.py": b"", "a/c/d.py": b""}
    left_out = ["a/.hidden", "a/.venv/lib.py", "a/c/__pycache__/d.pyc", "out/parts2.000"]
    write(tmp_path, {**kept, **dict.fromkeys(left_out, b"")})
    succeed("pack", "out", ".", cwd=tmp_path)
    assert names_packed(tmp_path / "out" / "parts.json") == sorted(kept)


def test_what_is_named_is_packed_though_it_is_hidden(tmp_path):
    write(tmp_path, {".settings/x": b"", ".y": b""})
    succeed("pack", "out", ".settings", ".y", cwd=tmp_path)
    assert names_packed(tmp_path / "out" / "parts.json") == [".settings/x", ".y"]


def test_exclude_takes_names_and_paths(tmp_path):
    names = ["a/x.log", "a/runs/1", "a/b/runs/2", "a/b/keep", "a/keep", "z.log"]
    write(tmp_path, dict.fromkeys(names, b""))
    options = ("--exclude", "*.log", "--exclude", "a/runs")
    succeed("pack", "out", "a", "z.log", *options, cwd=tmp_path)
    assert names_packed(tmp_path / "out" / "parts.json") == ["a/b/keep", "a/b/runs/2", "a/keep"]


def test_names_inside(tmp_path):
    write(tmp_path, {"here/a/x": b"", "there/deep/y": b"", "else/z": b""})
    here, absolute = tmp_path / "here", tmp_path / "there" / "deep"
    succeed("pack", "../out", "./a", absolute, "../else/z", cwd=here)
    assert names_packed(tmp_path / "out" / "parts.json") == ["a/x", "deep/y", "z"]


def test_the_default_folder_has_the_name_of_the_manifest(packed):
    succeed("unpack", "out/job.json", cwd=packed)
    assert files_of(packed / "job") == FILES


@pytest.mark.parametrize("name", ["a b", "", ".job", "-job", "jöb", "a/b", "../job", "job\n"])
def test_part_names_are_plain(source, name):
    assert "cannot be a name" in refused("pack", "out", "top.bin", f"--name={name}", cwd=source)


def test_a_missing_path_is_named(source):
    message = refused("pack", "out", "top.bin", "nothing", cwd=source)
    assert message == "there is no nothing: give a path that exists"
    assert "a path is empty" in refused("pack", "out", "top.bin", "", cwd=source)


def test_two_paths_of_one_name(tmp_path):
    write(tmp_path, {"a/x": b"1", "b/a/x": b"2"})
    message = refused("pack", "out", "a", tmp_path / "b" / "a", cwd=tmp_path)
    assert "would both be a/x inside" in message
    assert "would both be a/x inside" in refused("pack", "out", "a", "a/x", cwd=tmp_path)


def test_a_file_cannot_be_a_folder_inside(tmp_path):
    write(tmp_path, {"a/x": b"1", "b/a": b"2"})
    message = refused("pack", "out", "a", tmp_path / "b" / "a", cwd=tmp_path)
    assert message.endswith("would be the folder of a/x inside: leave one out")


def test_nothing_to_pack(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no files are left" in refused("pack", "out", "empty", cwd=tmp_path)


@needs_posix
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_links_and_pipes_are_not_packed(tmp_path, kind):
    write(tmp_path, {"a/x": b"1"})
    if kind == "link":
        (tmp_path / "a" / "odd").symlink_to(tmp_path)
    else:
        os.mkfifo(tmp_path / "a" / "odd")
    assert refused("pack", "out", "a", cwd=tmp_path).startswith("a/odd is ")
    succeed("pack", "out", "a", "--exclude", "odd", cwd=tmp_path)
    assert names_packed(tmp_path / "out" / "parts.json") == ["a/x"]


@pytest.mark.parametrize("existing", ["job.json", "job.000", "job.017", "job.1000"])
def test_existing_parts_are_kept(source, existing):
    write(source, {f"out/{existing}": b"old"})
    message = refused("pack", "out", "data", "--name", "job", cwd=source)
    assert message == f"{Path('out', existing)} exists: remove it, or use another --name"


def test_other_files_in_the_folder_do_not_matter(source):
    write(source, {"out/job2.json": b"", "out/job.txt": b"", "out/my.job.000": b""})
    succeed("pack", "out", "data", "--name", "job", cwd=source)


def test_the_total_is_kept_to_the_byte(packed):
    total = sum(path.stat().st_size for path in (packed / "out").iterdir())
    options = ("--name", "job", *PART_OPTION)
    message = refused(
        *("pack", "new", "top.bin", "data", *options, "--total", (total - 1) / 2**20), cwd=packed
    )
    assert f"{total:,} bytes are more than the {total - 1:,} of --total" in message
    succeed(*("pack", "new", "top.bin", "data", *options, "--total", total / 2**20), cwd=packed)
    assert files_of(packed / "new") == files_of(packed / "out")


def test_a_total_that_the_files_alone_exceed(source):
    write(source, {"out/mine": b""})
    message = refused("pack", "out", "top.bin", "--total", 20 * KIBIBYTE, cwd=source)
    assert f"{len(FILES['top.bin']):,} bytes are more than the 20,480" in message


def test_the_manifest_is_no_larger_than_a_part(source):
    message = refused("pack", "out", "data", "--part-size", KIBIBYTE, cwd=source)
    assert "the manifest, " in message
    assert "--part-size" in message


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "many"])
def test_sizes_that_are_none(source, value):
    done = run("pack", "out", "data", f"--part-size={value}", cwd=source)
    assert done.returncode == 2
    assert "--part-size" in done.stderr


@pytest.mark.parametrize("change", [b"", b"longer than it was"])
def test_a_file_that_changes_meanwhile(tmp_path, monkeypatch, change):
    path = tmp_path / "log"
    path.write_bytes(b"as it was")
    add = tarfile.TarFile.addfile

    def change_first(archive, info, fileobj=None):
        path.write_bytes(change)
        add(archive, info, fileobj)

    monkeypatch.setattr(tarfile.TarFile, "addfile", change_first)
    with pytest.raises(tool.PartsError, match="log changed while it was packed"):
        tool.pack(tmp_path / "out", [str(path)])
    assert list(content_of(tmp_path)) == ["log"]


@pytest.mark.parametrize("failing", [1, 3, 6])
def test_a_failure_while_the_parts_are_put_in_place(source, monkeypatch, failing):
    rename, count = Path.rename, 0

    def fail(path, target):
        nonlocal count
        count += 1
        if count == failing:
            raise OSError(28, "No space left on device")
        return rename(path, target)

    before = content_of(source)
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="No space"):
        tool.pack(source / "out", [str(source / "data"), str(source / "top.bin")], part_size=PART)
    assert content_of(source) == before


def test_no_more_than_a_chunk_is_in_memory(tmp_path):
    import tracemalloc

    with (tmp_path / "large").open("wb") as file:
        file.truncate(24 * 2**20)
    tracemalloc.start()
    try:
        tool.pack(tmp_path / "out", [str(tmp_path / "large")], part_size=10 * 2**20)
        tool.unpack(tmp_path / "out" / "parts.json", tmp_path / "back")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * 2**20
    assert (tmp_path / "back" / "large").stat().st_size == 24 * 2**20


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap(first: Path, second: Path) -> None:
    first_data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(first_data)


PART_DAMAGE = {
    "missing": (lambda out: (out / "job.002").unlink(), "job.002 is missing"),
    "damaged": (lambda out: damage(out / "job.002"), "job.002 is damaged"),
    "short": (
        lambda out: (out / "job.002").write_bytes((out / "job.002").read_bytes()[:-1]),
        f"job.002 is too short ({PART - 1}, not {PART} bytes)",
    ),
    "long": (
        lambda out: (out / "job.002").write_bytes((out / "job.002").read_bytes() + b"\0"),
        f"job.002 is too long ({PART + 1}, not {PART} bytes)",
    ),
    "a folder": (
        lambda out: ((out / "job.002").unlink(), (out / "job.002").mkdir()),
        "job.002 is missing",
    ),
}


@pytest.mark.parametrize("kind", PART_DAMAGE)
def test_a_bad_part_is_named(packed, kind):
    make, expected = PART_DAMAGE[kind]
    make(packed / "out")
    message = refused("unpack", "out/job.json", "-o", "back", cwd=packed)
    assert message == f"{Path('out')}{os.sep}{expected}: fetch again, beside the manifest"


def test_swapped_parts_are_both_named(packed):
    swap(packed / "out" / "job.001", packed / "out" / "job.003")
    message = refused("unpack", "out/job.json", "-o", "back", cwd=packed)
    assert "job.001 is damaged, " in message
    assert "job.003 is damaged: " in message
    assert "job.002" not in message


def test_a_damaged_part_in_use_costs_the_whole_folder(packed, monkeypatch):
    """Damage between the two readings is found by the files' own digests."""
    monkeypatch.setattr(tool, "_check_parts", lambda paths, parts: None)
    start = FILES["top.bin"][:32]
    path = next(path for path in (packed / "out").iterdir() if start in path.read_bytes())
    path.write_bytes(path.read_bytes().replace(start, b"other" + start[5:]))
    before = content_of(packed)
    with pytest.raises(tool.PartsError, match=r"top\.bin is not what the manifest says"):
        tool.unpack(packed / "out" / "job.json", packed / "back")
    assert content_of(packed) == before


@pytest.mark.parametrize("kind", ["file", "folder", "full"])
def test_what_is_there_stays(packed, kind):
    write(packed, {"back/mine": b"old"} if kind == "full" else {"back": b"old"})
    if kind == "folder":
        (packed / "back").unlink()
        (packed / "back").mkdir()
    message = refused("unpack", "out/job.json", "-o", "back", cwd=packed)
    assert message == "back exists: remove it, or choose another with -o"


def test_a_folder_in_no_folder(packed):
    message = refused("unpack", "out/job.json", "-o", "no/back", cwd=packed)
    assert message == "there is no folder no: create it first"


def test_a_missing_manifest(tmp_path):
    assert refused("unpack", "job.json", cwd=tmp_path) == "job.json: No such file or directory"


def test_an_existing_parts_folder_that_is_a_file(source):
    assert "Not a directory" in refused("pack", "top.bin", "data", cwd=source)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", '"text"', "\udcff", "[" * 100_000),
        *('{"format": 1}', '{"format": 1, "parts": 3, "files": []}'),
        '{"format": 1, "parts": [{"name": "job.000"}], "files": []}',
    ],
    ids=range(10),
)
def test_what_is_no_manifest(packed, text):
    (packed / "out" / "job.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    message = refused("unpack", "out/job.json", "-o", "back", cwd=packed)
    assert message.endswith("job.json is no manifest, or is damaged: fetch it again")


@pytest.mark.parametrize(
    ("group", "field", "value"),
    [
        ("parts", "name", "../out/job.000"),
        ("parts", "name", "/etc/passwd"),
        ("parts", "name", 3),
        ("parts", "size", -1),
        ("parts", "size", 10240.0),
        ("parts", "size", True),
        ("parts", "sha256", "0" * 63),
        ("parts", "sha256", None),
        ("files", "size", "3"),
        ("files", "name", "a\0b"),
        ("files", "name", ""),
        ("files", "name", "."),
        ("files", "name", "a//b"),
        ("files", "name", "a/"),
        ("files", "name", "./a"),
    ],
)
def test_a_manifest_with_a_bad_entry(packed, group, field, value):
    path = packed / "out" / "job.json"
    manifest = json.loads(path.read_text())
    manifest[group][0][field] = value
    path.write_text(json.dumps(manifest))
    message = refused("unpack", "out/job.json", "-o", "back", cwd=packed)
    assert message.endswith("job.json is no manifest, or is damaged: fetch it again")


def test_another_format_of_manifest(packed):
    path = packed / "out" / "job.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    message = refused("unpack", "out/job.json", "-o", "back", cwd=packed)
    assert message.endswith("comes from another parts.py: use the same on both machines")


Member = tuple[str, bytes, bytes, dict[str, str]]
"""Name, type, content and pax headers of a member of an archive."""


def forge(folder: Path, members: list[Member], listed: dict[str, bytes]) -> Path:
    """An archive with anything in it, as one good part, and a manifest that lists something."""
    stream = io.BytesIO()
    with tarfile.open(mode="w", fileobj=stream, format=tarfile.PAX_FORMAT) as archive:
        for name, kind, data, headers in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.pax_headers = kind, len(data), headers
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname, info.size = data.decode(), 0
            archive.addfile(info, io.BytesIO(data))
    return forge_parts(folder, stream.getvalue(), listed)


def forge_parts(folder: Path, archive: bytes, listed: dict[str, bytes]) -> Path:
    def entry(name: str, data: bytes) -> dict[str, object]:
        return {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    write(folder, {"in/bad.000": archive})
    files = [entry(name, data) for name, data in listed.items()]
    manifest = {"format": 1, "parts": [entry("bad.000", archive)], "files": files}
    path = folder / "in" / "bad.json"
    path.write_text(json.dumps(manifest))
    return path


PLAIN = tarfile.REGTYPE


def test_a_forged_archive_of_plain_files_is_fine(tmp_path):
    """The other forgeries fail for what is forged, not for how they are made."""
    forge(tmp_path, [("a/x", PLAIN, b"1", {}), ("y", PLAIN, b"", {})], {"a/x": b"1", "y": b""})
    succeed("unpack", "in/bad.json", "-o", "deep", cwd=tmp_path)
    assert files_of(tmp_path / "deep") == {"a/x": b"1", "y": b""}


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a/..", "/x", "//x", "..", "ABSOLUTE"])
def test_no_name_leads_out(tmp_path, name):
    name = name.replace("ABSOLUTE", (tmp_path / "x").as_posix())
    members = [("ok", PLAIN, b"0", {}), (name, PLAIN, b"1", {})]
    forge(tmp_path, members, {"ok": b"0", name: b"1"})
    message = refused("unpack", "in/bad.json", "-o", "back", cwd=tmp_path)
    assert "is no manifest" in message
    # The same archive under a manifest that does not admit to the name.
    forge(tmp_path, members, {"ok": b"0", "fine": b"1"})
    message = refused("unpack", "in/bad.json", "-o", "back", cwd=tmp_path)
    assert "the manifest has not" in message
    forge(tmp_path, members, {"ok": b"0"})
    assert "the manifest has not" in refused("unpack", "in/bad.json", "-o", "b", cwd=tmp_path)


@pytest.mark.parametrize(
    "kind",
    [
        *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE),
        *(tarfile.DIRTYPE, tarfile.CONTTYPE),
    ],
)
def test_only_plain_files_are_unpacked(tmp_path, kind):
    target = b"../in/bad.json" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else b""
    forge(tmp_path, [("odd", kind, target, {})], {"odd": b""})
    message = refused("unpack", "in/bad.json", "-o", "back", cwd=tmp_path)
    assert message == "odd is no plain file: pack it again"


def test_nothing_is_written_through_a_link(tmp_path):
    members = [
        ("dir", tarfile.SYMTYPE, b"..", {}),
        ("dir/x", PLAIN, b"1", {}),
    ]
    forge(tmp_path, members, {"dir": b"", "dir/x": b"1"})
    assert "dir is no plain file" in refused("unpack", "in/bad.json", "-o", "b", cwd=tmp_path)


def test_sparse_files_are_refused(tmp_path):
    headers = {"GNU.sparse.size": "9", "GNU.sparse.numblocks": "0", "GNU.sparse.map": "0,0"}
    forge(tmp_path, [("odd", PLAIN, b"", headers)], {"odd": bytes(9)})
    message = refused("unpack", "in/bad.json", "-o", "back", cwd=tmp_path)
    assert message == "odd is no plain file: pack it again"


@pytest.mark.parametrize(
    ("members", "listed", "expected"),
    [
        (["x"], ["x", "y"], "the archive lacks y"),
        (["x", "y"], ["x"], "the archive has y, the manifest has not"),
        (["x", "y"], ["y", "x"], "the archive has x, the manifest has not"),
        (["x", "x"], ["x"], "the archive has x, the manifest has not"),
        (["x", "x"], ["x", "x"], "File exists"),
        (["x", "x/y"], ["x", "x/y"], "File exists"),
    ],
)
def test_the_archive_is_what_the_manifest_lists(tmp_path, members, listed, expected):
    forge(tmp_path, [(name, PLAIN, b"1", {}) for name in members], dict.fromkeys(listed, b"1"))
    if listed == ["x", "x"]:  # a dict lists it once
        path = tmp_path / "in" / "bad.json"
        manifest = json.loads(path.read_text())
        path.write_text(json.dumps({**manifest, "files": manifest["files"] * 2}))
    assert expected in refused("unpack", "in/bad.json", "-o", "back", cwd=tmp_path)


def test_a_file_that_is_not_what_the_manifest_says(tmp_path):
    forge(tmp_path, [("x", PLAIN, b"1", {})], {"x": b"2"})
    message = refused("unpack", "in/bad.json", "-o", "back", cwd=tmp_path)
    assert message == "x is not what the manifest says: pack it again"
    forge(tmp_path, [("x", PLAIN, b"1", {})], {"x": b"22"})
    assert "the manifest has not" in refused("unpack", "in/bad.json", "-o", "b", cwd=tmp_path)


@pytest.mark.parametrize("archive", [b"", b"no archive", random_bytes(PART), bytes(PART)])
def test_what_is_no_archive(tmp_path, archive):
    forge_parts(tmp_path, archive, {"x": b"1"})
    message = refused("unpack", "in/bad.json", "-o", "back", cwd=tmp_path)
    assert message.startswith(("the archive is damaged (", "the archive lacks x"))


def test_an_archive_that_is_cut_short(tmp_path):
    forge(tmp_path, [("x", PLAIN, bytes(5000), {})], {"x": bytes(5000)})
    archive = (tmp_path / "in" / "bad.000").read_bytes()
    forge_parts(tmp_path, archive[:2000], {"x": bytes(5000)})
    message = refused("unpack", "in/bad.json", "-o", "back", cwd=tmp_path)
    assert message.startswith(("the archive is damaged (", "x is not what"))


def test_an_interruption_leaves_nothing(packed, monkeypatch, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.chdir(packed)
    monkeypatch.setattr(tool, "_extract_file", interrupt)
    before = content_of(packed)
    assert tool.main(["unpack", "out/job.json", "-o", "back"]) == 130
    monkeypatch.setattr(tool, "_add", interrupt)
    assert tool.main(["pack", "out", "data"]) == 130
    assert tool.main(["pack", "new", "data"]) == 130
    assert capsys.readouterr().err == "parts.py: interrupted\n" * 3
    assert content_of(packed) == before


@needs_posix
def test_messages_are_one_line_whatever_the_names(tmp_path):
    assert r"two\nlines" in refused("pack", "out", "two\nlines", cwd=tmp_path)


@needs_posix
def test_names_that_are_no_unicode_survive(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    try:
        write(tmp_path, {f"a/{name}": b"1"})
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    succeed("pack", "out", "a", cwd=tmp_path)
    succeed("unpack", "out/parts.json", "-o", "back", cwd=tmp_path)
    assert files_of(tmp_path / "back") == {f"a/{name}": b"1"}


def test_only_the_standard_library_is_imported():
    """What `-S` cannot show: names that a test machine has by accident."""
    import ast

    names = set()
    for node in ast.walk(ast.parse(TOOL.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    assert names <= sys.stdlib_module_names
