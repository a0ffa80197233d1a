"""Carry files between two machines in parts that are small enough, and verified.

    python tools/parts.py pack outbox src tools photos --part-size 15 --total 60 --name job
    python tools/parts.py unpack inbox/job.json -o job

`pack` writes outbox/job.000, job.001, ... and job.json, the manifest; all of them travel. It is one
plain tar archive cut into pieces. The same files give the same bytes, whenever and by whomever
they are packed. `unpack` looks at every part before it writes anything.

This file needs Python 3.10 or newer and nothing else: the other machine may have nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fnmatch
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Literal

MEBIBYTE = 2**20
CHUNK = MEBIBYTE
"""Bytes that are in memory at a time."""
PART_SIZE = 15 * MEBIBYTE
FORMAT = 1
"""What the manifest calls this layout; a later layout gets another number."""
EXECUTABLE, PLAIN = 0o755, 0o644
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class PartsError(Exception):
    """An expected failure; its message is one line that says what to do."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """What the manifest says of one part, or of one packed file."""

    name: str
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The parts in their order, and the files in the order of the archive."""

    parts: list[Entry]
    files: list[Entry]


def pack(
    output: Path,
    paths: Sequence[str],
    *,
    part_size: int = PART_SIZE,
    total: int | None = None,
    name: str = "parts",
    exclude: Sequence[str] = (),
) -> Manifest:
    """Pack files and folders into parts of at most `part_size` bytes, and the manifest.

    A relative path keeps its name inside; an absolute one, or one that begins with `..`, goes in
    under its last component. Inside folders, hidden entries, `__pycache__`, and the output folder
    are left out; so are folders without files. `total` bounds parts and manifest together.

    Raises:
        PartsError: a path is missing or neither file nor folder, two would get one name, there
            are parts of this name, or a limit is exceeded. Nothing is left behind then.
        OSError: a file cannot be read or written. Nothing is left behind then, either.
    """
    if not _SAFE_NAME.fullmatch(name):
        raise PartsError(
            f"{name!a} cannot be a name: use letters, digits, '.', '_' and '-', and begin "
            "with a letter or a digit"
        )
    files = _files_to_pack(paths, exclude, output)
    _check_total(sum(path.stat().st_size for path in files.values()), total)
    with _new_files(output, name) as staging:
        manifest = _write_archive(staging, name, files, part_size)
        text = json.dumps({"format": FORMAT, **dataclasses.asdict(manifest)}, indent=1) + "\n"
        if len(text) > part_size:
            raise PartsError(
                f"the manifest, {len(text)} bytes, is larger than a part may be: raise "
                "--part-size, or pack fewer files"
            )
        (staging / f"{name}.json").write_text(text, encoding="ascii")
        _check_total(len(text) + sum(part.size for part in manifest.parts), total)
    return manifest


def unpack(manifest_path: Path, folder: Path) -> Manifest:
    """Verify the parts beside a manifest, and unpack them into a folder that is not there yet.

    Raises:
        PartsError: the manifest is damaged; a part is missing, damaged, too long or too short; the
            archive has anything but the files of the manifest; or the folder exists.
        OSError: something cannot be read or written. The folder does not appear then, either.
    """
    manifest = _read_manifest(manifest_path)
    paths = [manifest_path.parent / part.name for part in manifest.parts]
    _check_parts(paths, manifest.parts)
    with _new_folder(folder) as staging, contextlib.closing(_PartReader(paths)) as reader:
        try:
            _extract(reader, manifest.files, staging)
        # What tarfile raises about headers that nobody would write by accident.
        except (tarfile.TarError, EOFError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise PartsError(f"the archive is damaged ({reason}): pack it again") from error
    return manifest


def display_name(path: str | PurePath) -> str:
    """The path as messages show it: one printable line, whatever characters it has."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def _files_to_pack(paths: Sequence[str], exclude: Sequence[str], output: Path) -> dict[str, Path]:
    """Names inside, sorted, with the files that get them."""
    files: dict[str, Path] = {}
    for given in paths:
        path, start = Path(given), _name_inside(given)
        if not given:  # from an empty variable of a shell; it would be the current folder
            raise PartsError("a path is empty: give the names of files and folders")
        if not path.exists():
            raise PartsError(f"there is no {display_name(path)}: give a path that exists")
        found = [] if _is_excluded(start, exclude) else _walk(path, start, exclude, output)
        for name, file in found:
            if name in files:
                raise PartsError(
                    f"{display_name(files[name])} and {display_name(file)} would both be "
                    f"{display_name(name)} inside: leave one out"
                )
            files[name] = file
    if not files:
        raise PartsError("no files are left to pack: give other paths, or exclude less")
    for name, file in files.items():
        for parent in map(PurePath.as_posix, PurePath(name).parents):
            if parent in files:
                raise PartsError(
                    f"{display_name(files[parent])} would be the folder of {display_name(file)} "
                    "inside: leave one out"
                )
    return dict(sorted(files.items()))


def _name_inside(given: str) -> str:
    """The name that a given path gets in the archive; empty for the current folder."""
    path = PurePath(os.path.normpath(given))
    if path.is_absolute() or path.parts[:1] == ("..",):
        # Not resolve(): a link that is given keeps its own name.
        return Path(os.path.abspath(given)).name  # noqa: PTH100 # Path.absolute keeps the dots
    return "" if path == PurePath() else path.as_posix()


def _is_excluded(name: str, exclude: Sequence[str]) -> bool:
    texts = (name, PurePath(name).name)
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in exclude for text in texts)


def _walk(
    path: Path, name: str, exclude: Sequence[str], output: Path
) -> Iterator[tuple[str, Path]]:
    """Names inside, and files, at and below a path."""
    status = path.stat()
    if stat.S_ISREG(status.st_mode):
        yield name, path
        return
    if not stat.S_ISDIR(status.st_mode):
        raise PartsError(f"{display_name(path)} is no file and no folder: leave it out (--exclude)")
    for child in path.iterdir():
        inside = f"{name}/{child.name}" if name else child.name
        if child.name.startswith(".") or child.name == "__pycache__":
            continue
        if _is_excluded(inside, exclude) or child.resolve() == output.resolve():
            continue
        if child.is_symlink():  # it could lead in circles, or out of all that was named
            raise PartsError(
                f"{display_name(child)} is a link: give what it leads to, or leave it out "
                "(--exclude)"
            )
        yield from _walk(child, inside, exclude, output)


def _check_total(size: int, total: int | None) -> None:
    if total is not None and size > total:
        raise PartsError(
            f"{size:,} bytes are more than the {total:,} of --total: pack less, or raise it"
        )


@contextlib.contextmanager
def _new_files(output: Path, name: str) -> Iterator[Path]:
    """Give a hidden folder; what is in it moves to `output` when the block ends well.

    Raises:
        PartsError: `output` has files of the names that the parts or the manifest can have.
    """
    is_new = not output.exists()
    if is_new:
        output.mkdir()
    staging = output / f".parts-{secrets.token_hex(8)}"
    moved: list[Path] = []
    try:
        for entry in sorted(output.iterdir()):
            if re.fullmatch(re.escape(name) + r"\.(json|[0-9]{3,})", entry.name):
                raise PartsError(f"{display_name(entry)} exists: remove it, or use another --name")
        staging.mkdir()
        yield staging
        for file in sorted(staging.iterdir()):  # the manifest last
            moved.append(output / file.name)
            file.rename(moved[-1])
        staging.rmdir()
    except BaseException:
        for path in moved:
            path.unlink(missing_ok=True)
        shutil.rmtree(staging, ignore_errors=True)
        if is_new:
            with contextlib.suppress(OSError):
                output.rmdir()
        raise


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Give a hidden folder beside `folder`; it becomes `folder` when the block ends well."""
    if os.path.lexists(folder):
        raise PartsError(f"{display_name(folder)} exists: remove it, or choose another with -o")
    if not folder.parent.is_dir():
        raise PartsError(f"there is no folder {display_name(folder.parent)}: create it first")
    staging = folder.parent / f".parts-{secrets.token_hex(8)}"
    try:
        staging.mkdir()
        yield staging
        staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


class _PartWriter:
    """Cuts what is written to it into part files, and lists them in `parts`."""

    def __init__(self, folder: Path, name: str, part_size: int) -> None:
        self.folder = folder
        self.name = name
        self.part_size = part_size
        self.parts: list[Entry] = []
        self.file: BinaryIO | None = None
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Append; a new part begins only when there is a byte for it."""
        rest = memoryview(data)
        while rest:
            if self.file is None:
                part = self.folder / f"{self.name}.{len(self.parts):03}"
                self.file, self.size, self.digest = part.open("xb"), 0, hashlib.sha256()
            piece = rest[: self.part_size - self.size]
            self.file.write(piece)
            self.digest.update(piece)
            self.size += len(piece)
            rest = rest[len(piece) :]
            if self.size == self.part_size:
                self.close()
        return len(data)

    def close(self) -> None:
        """End the part that is being written, if there is one."""
        if self.file is not None:
            self.file.close()
            name = f"{self.name}.{len(self.parts):03}"
            self.parts.append(Entry(name, self.size, self.digest.hexdigest()))
            self.file = None


class _PartReader:
    """Reads parts as the one stream that they were cut from."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.waiting = list(reversed(paths))
        self.file: BinaryIO | None = None

    def read(self, size: int) -> bytes:
        """At most `size` bytes, and none only at the end of the last part."""
        while True:
            if self.file is not None:
                if data := self.file.read(size):
                    return data
                self.close()
            if not self.waiting:
                return b""
            self.file = self.waiting.pop().open("rb")

    def close(self) -> None:
        """Close the part that is being read."""
        if self.file is not None:
            self.file.close()
            self.file = None


class _HashingReader:
    """Reads a file whose size was promised, and keeps the digest of what was read."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file = file
        self.path = path
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Exactly `size` bytes, or all that is left.

        Raises:
            PartsError: the file has become shorter.
        """
        data = self.file.read(size)
        if len(data) < size:
            raise _changed(self.path)
        self.digest.update(data)
        return data


def _changed(path: Path) -> PartsError:
    return PartsError(f"{display_name(path)} changed while it was packed: pack again")


def _archive(mode: Literal["r|", "w|"], stream: Any) -> tarfile.TarFile:
    """A tar archive as a stream, for which reading alone or writing alone is enough."""
    return tarfile.open(mode=mode, fileobj=stream, format=tarfile.PAX_FORMAT)


def _write_archive(folder: Path, name: str, files: dict[str, Path], part_size: int) -> Manifest:
    writer = _PartWriter(folder, name, part_size)
    with contextlib.closing(writer), _archive("w|", writer) as archive:
        entries = [_add(archive, name, path) for name, path in files.items()]
    return Manifest(writer.parts, entries)


def _add(archive: tarfile.TarFile, name: str, path: Path) -> Entry:
    info = tarfile.TarInfo(name)  # owner and time are zero
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        info.size = status.st_size
        info.mode = EXECUTABLE if status.st_mode & stat.S_IXUSR else PLAIN
        reader = _HashingReader(file, path)
        archive.addfile(info, reader)
        if file.read(1):
            raise _changed(path)
    return Entry(name, info.size, reader.digest.hexdigest())


def _read_manifest(path: Path) -> Manifest:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise PartsError(
                f"{display_name(path)} comes from another parts.py: use the same on both machines"
            )
        parts = [_entry(part, _SAFE_NAME.fullmatch) for part in values["parts"]]
        return Manifest(parts, [_entry(file, _is_inside) for file in values["files"]])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PartsError(
            f"{display_name(path)} is no manifest, or is damaged: fetch it again"
        ) from error


def _entry(values: dict[str, Any], is_safe: Callable[[str], object]) -> Entry:
    """An entry of the manifest whose name is safe.

    Raises:
        ValueError, KeyError, TypeError: the values cannot be what `pack` wrote.
    """
    entry = Entry(values["name"], values["size"], values["sha256"])
    if type(entry.size) is not int or entry.size < 0 or not _SHA256.fullmatch(entry.sha256):
        raise ValueError("not a size or not a digest")
    if not is_safe(entry.name):
        raise ValueError("not a safe name")
    return entry


def _is_inside(name: str) -> bool:
    """Whether a name of the archive stays in the folder that it is unpacked into."""
    components = name.split("/")
    if ".." in components or "\0" in name:
        return False
    # The system's own reading: it also knows drives and backslashes where these mean something.
    return PurePath(*components).parts == (*components,)


def _check_parts(paths: Sequence[Path], parts: Sequence[Entry]) -> None:
    problems = [
        f"{display_name(path)} {problem}"
        for path, part in zip(paths, parts, strict=True)
        if (problem := _problem_of(path, part))
    ]
    if problems:
        raise PartsError(f"{', '.join(problems)}: fetch again, beside the manifest")


def _problem_of(path: Path, part: Entry) -> str:
    """What is wrong with a part; empty if nothing is."""
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != part.size:
        return f"is too {'long' if size > part.size else 'short'} ({size}, not {part.size} bytes)"
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return "" if digest.hexdigest() == part.sha256 else "is damaged"


def _extract(reader: _PartReader, entries: Sequence[Entry], folder: Path) -> None:
    """Write the files of the archive, which must be those of the entries, in their order."""
    expected = iter(entries)
    with _archive("r|", reader) as archive:
        for member in archive:
            entry = next(expected, None)
            # Names were checked in the manifest. Links, devices and folders are of other types.
            if entry is None or (member.name, member.size) != (entry.name, entry.size):
                raise PartsError(
                    f"the archive has {display_name(member.name)}, the manifest has not: pack again"
                )
            if member.type != tarfile.REGTYPE or member.issparse():
                raise PartsError(f"{display_name(member.name)} is no plain file: pack it again")
            _extract_file(archive, member, entry, folder)
    missing = next(expected, None)
    if missing is not None:
        raise PartsError(f"the archive lacks {display_name(missing.name)}: pack it again")


def _extract_file(
    archive: tarfile.TarFile, member: tarfile.TarInfo, entry: Entry, folder: Path
) -> None:
    target = folder / entry.name
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    source = archive.extractfile(member)
    assert source is not None  # it is for links and folders
    with source, target.open("xb") as file:
        while chunk := source.read(CHUNK):
            file.write(chunk)
            digest.update(chunk)
    if digest.hexdigest() != entry.sha256:
        raise PartsError(f"{display_name(entry.name)} is not what the manifest says: pack it again")
    if member.mode & stat.S_IXUSR:
        mode = target.stat().st_mode
        target.chmod(mode | (mode & 0o444) >> 2)  # whoever may read it may run it


def _mebibytes(text: str) -> int:
    """Bytes of a number of MiB on the command line."""
    value = float(text) * MEBIBYTE
    if not (math.isfinite(value) and value >= 1):
        raise ValueError
    return int(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="parts.py", description="Carry files between machines in small, verified parts."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="write NAME.000, NAME.001, ... and NAME.json")
    packing.add_argument("output", type=Path, metavar="OUTPUT_FOLDER", help="made if missing")
    packing.add_argument("paths", nargs="+", metavar="PATH", help="files and folders")
    packing.add_argument(
        "--part-size", type=_mebibytes, default=PART_SIZE, metavar="MIB",
        help="largest size of a file that is written (default: 15)",
    )  # fmt: skip
    packing.add_argument(
        "--total", type=_mebibytes, metavar="MIB",
        help="refuse to write more than this, the manifest included",
    )  # fmt: skip
    packing.add_argument("--name", default="parts", help="what the parts are called")
    packing.add_argument(
        "--exclude", action="append", default=[], metavar="GLOB",
        help="leave out what has such a name, or such a path inside; repeatable",
    )  # fmt: skip
    unpacking = commands.add_parser("unpack", help="verify the parts and unpack them")
    unpacking.add_argument("manifest", type=Path, metavar="MANIFEST.json")
    unpacking.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER",
        help="must not exist (default: the manifest's name without .json)",
    )  # fmt: skip
    return parser


def _run(arguments: argparse.Namespace) -> str:
    """Do what was asked; returns the line that says what was done."""
    if arguments.command == "pack":
        target = arguments.output / f"{arguments.name}.json"
        manifest = pack(
            arguments.output,
            arguments.paths,
            part_size=arguments.part_size,
            total=arguments.total,
            name=arguments.name,
            exclude=arguments.exclude,
        )
    else:
        target = arguments.output or Path(arguments.manifest.stem)
        manifest = unpack(arguments.manifest, target)
    size = sum(part.size for part in manifest.parts) / MEBIBYTE
    return (
        f"{display_name(target)}: {len(manifest.files)} files, {size:.2f} MiB in "
        f"{len(manifest.parts)} parts"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (0 done, 1 failed, 2 wrong usage)."""
    try:
        print(_run(_parser().parse_args(arguments)))
        return 0
    except PartsError as error:
        message, status = str(error), 1
    except OSError as error:
        place = f"{display_name(error.filename)}: " if error.filename else ""
        message, status = f"{place}{error.strerror or error}", 1
    except KeyboardInterrupt:
        message, status = "interrupted", INTERRUPTED
    print(f"parts.py: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
