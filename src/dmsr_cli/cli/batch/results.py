"""Which results are up to date, which may be replaced, and which are somebody else's."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsr_cli.cli.batch.fingerprint import difference, is_noted, settings_of
from dmsr_cli.cli.batch.inputs import same_name
from dmsr_cli.cli.batch.manifest import Entry, Manifest
from dmsr_cli.errors import ImageError
from dmsr_cli.files import check_is_file, display_name, reason_of, refuse_changed, sha256_of
from dmsr_cli.video import is_video

if TYPE_CHECKING:
    from dmsr_cli.cli.batch.jobs import Job
    from dmsr_cli.cli.batch.settings import Batch
    from dmsr_cli.images import Provenance


class Kind(enum.Enum):
    """What is to be done where a result belongs."""

    MISSING = "nothing is there"
    CURRENT = "it need not be made again"
    STALE = "it is ours and untouched, but has to be made anew"
    FOREIGN = "it is not known as ours and must not be replaced"


@dataclass(frozen=True)
class State:
    """What is there where a result belongs."""

    kind: Kind
    why: str = ""
    """Of what is stale or foreign: what follows the result's name in a message."""


def state_of_job(job: Job, batch: Batch, source: SourceFile) -> State:
    """What is there for a job of a batch that remembers; files beside the result count, too."""
    assert batch.results is not None, "this batch remembers nothing"
    from dmsr_cli.cli.batch.pictures import files_beside

    settings = settings_of(batch, job.target.suffix)
    state = batch.results.state_of(job.target, source, settings)
    if state.kind is not Kind.CURRENT:
        return state
    for path in files_beside(job.target, batch.options):
        if not os.path.lexists(path):
            kind = Kind.STALE if batch.results.is_ours(job.target) else Kind.FOREIGN
            return State(kind, f"has no {display_name(path.name)} beside it")
    return state


def all_up_to_date(jobs: Iterable[Job], batch: Batch) -> bool:
    """There is nothing to do for any job, so that no network is needed."""
    if all(job.error is not None for job in jobs):
        return True
    if batch.results is None or not batch.options.skip_existing:
        return False
    try:
        return all(
            job.error is not None
            or (
                not (job.is_piped_in or job.is_piped_out)
                and state_of_job(job, batch, SourceFile(job.source)).kind is Kind.CURRENT
            )
            for job in jobs
        )
    except ImageError:  # it will be told when its turn comes
        return False


class SourceFile:
    """An input as it is when this is made: before its reading begins."""

    def __init__(self, path: Path) -> None:
        """Raises ImageError if there is no such file, or none that could be a picture."""
        self.path = path
        try:
            check_is_file(path, "clip" if is_video(path) else "picture")
            status = path.stat()
        except FileNotFoundError:
            raise ImageError(f"cannot read {display_name(path)}: no such file") from None
        except (ImageError, OSError, ValueError) as error:
            raise ImageError(f"cannot read {display_name(path)}: {reason_of(error)}") from None
        self.size, self.mtime_ns = self.look = status.st_size, status.st_mtime_ns

    def refuse_changed(self) -> None:
        """Raise ImageError if it is not what it was."""
        refuse_changed(self.path, self.look)

    @cached_property
    def sha256(self) -> str:
        """Of its bytes; ImageError if they are not those any more."""
        try:
            found = _sha256(self.path)
        except OSError as error:
            raise ImageError(f"cannot read {display_name(self.path)}: {reason_of(error)}") from None
        self.refuse_changed()
        return found


class Results:
    """The results of all folders that a batch writes to."""

    def __init__(self, on_warning: Callable[[str], None]) -> None:
        """`on_warning` is called with a line for each manifest that cannot be used."""
        self._on_warning = on_warning
        self._manifests: dict[Path, Manifest] = {}

    def state_of(self, target: Path, source: SourceFile, settings: dict[str, Any]) -> State:
        """What is there where the result of a source, made with these settings, belongs."""
        if not os.path.lexists(target):
            return State(Kind.MISSING)
        if not target.is_file():  # of a pipe, nothing could be read, without an end
            return State(Kind.FOREIGN, "exists and is not a regular file")
        entry = self._entry_of(target)
        if entry is None:
            return self._state_by_note(target, source, settings)
        folder = target.parent
        origin = _path_of(entry, folder)
        if _same_path(source.path, target):
            return State(Kind.CURRENT)  # it took its input's place, and is not restored once more
        if not _made_from(entry, origin, source):
            if not _same_path(origin, source.path):  # which may be gone: nobody could make it anew
                return State(Kind.FOREIGN, f"is the result of {display_name(origin)}")
            return State(Kind.STALE, "was made earlier, and the input has changed since")
        how = difference(entry.settings, settings)
        return State(Kind.STALE, f"was made {how}") if how else State(Kind.CURRENT)

    def recorder(
        self, path: Path, source: SourceFile, settings: dict[str, Any]
    ) -> Callable[[Path], None]:
        """What notes that `path` is about to be written; call it with the finished temporary file.

        It raises ImageError if the source is not what it was when its reading began.
        """

        def record(temporary: Path) -> None:
            status = temporary.stat()
            folder = path.parent
            facts = (path.name, status.st_size, status.st_mtime_ns, _sha256(temporary))
            about = (source.size, source.mtime_ns, source.sha256, settings)
            origin = _relative(source.path, folder)
            self._manifest(folder).append(Entry(*facts, origin, *about))

        return record

    def is_ours(self, path: Path) -> bool:
        """It is listed, and untouched since."""
        return self._entry_of(path) is not None

    def is_listed(self, path: Path) -> bool:
        """A result of that name was made; it may have been changed since."""
        return next(self._manifest(path.parent).entries(path.name), None) is not None

    def owner_of(self, target: Path) -> Path | None:
        """The input whose result was written there last, if both are still there."""
        entry = next(self._manifest(target.parent).entries(target.name), None)
        if entry is None or not os.path.lexists(target):
            return None
        origin = _path_of(entry, target.parent)
        return origin if origin.exists() else None

    def _manifest(self, folder: Path) -> Manifest:
        found = self._manifests.get(folder)
        if found is None:
            found = self._manifests.setdefault(folder, Manifest(folder, self._on_warning))
        return found

    def _entry_of(self, path: Path) -> Entry | None:
        """The entry that a file agrees with."""
        found = None
        try:
            status = path.stat()
            for entry in self._manifest(path.parent).entries(path.name):
                if entry.size != status.st_size:
                    continue
                if entry.mtime_ns == status.st_mtime_ns:
                    return entry
                found = found or _sha256(path)
                if entry.sha256 == found:
                    return entry
        except OSError:
            pass  # what cannot be looked at is not known as ours
        return None

    def _state_by_note(self, target: Path, source: SourceFile, settings: dict[str, Any]) -> State:
        """By the note in the file: such a result may be left, but is not replaced."""
        if self.is_listed(target):
            return State(Kind.FOREIGN, "was changed after it was made")
        note = _note_of(target)
        same = note is not None and note.source and is_noted(note.settings, settings)
        if note is not None and same and note.source == source.sha256:
            return State(Kind.CURRENT)
        why = "exists already and is not known as a result of these settings and this input"
        return State(Kind.FOREIGN, why)


def _note_of(path: Path) -> Provenance | None:
    from dmsr_cli.images import read_provenance

    try:
        return read_provenance(path)
    except ImageError:
        return None


def _made_from(entry: Entry, origin: Path, source: SourceFile) -> bool:
    if entry.source_size != source.size:
        return False
    if entry.source_mtime_ns == source.mtime_ns and _same_path(origin, source.path):
        return True
    return entry.source_sha256 == source.sha256


def _relative(path: Path, folder: Path) -> str:
    """A path as seen from a folder; the whole path where there is none, from drive to drive."""
    whole = os.path.realpath(path)
    try:
        return os.path.relpath(whole, os.path.realpath(folder))
    except ValueError:
        return whole


def _path_of(entry: Entry, folder: Path) -> Path:
    """Whole, and without the steps up that make two spellings of one path."""
    return Path(os.path.normpath(os.path.join(os.path.realpath(folder), entry.source)))  # noqa: PTH118 - pathlib takes no steps back


def _same_path(one: Path, other: Path) -> bool:
    return one == other or same_name(os.path.realpath(one)) == same_name(os.path.realpath(other))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return sha256_of(file)
