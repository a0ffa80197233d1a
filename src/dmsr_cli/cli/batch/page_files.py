"""The files of --report and --compare-page that are pages: written whole, when all has ended."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from dmsr_cli.errors import DmsrError, SettingsError
from dmsr_cli.files import display_name, is_there, reason_of

if TYPE_CHECKING:
    from dmsr_cli.pages import Exhibit
    from dmsr_cli.pages.compare_page import Kept as KeptComparison
    from dmsr_cli.pages.report_page import Kept as KeptFindings

Kept = TypeVar("Kept")

PAGE_SUFFIXES = (".html", ".htm")


def is_page(path: Path) -> bool:
    """The name says that it is to be a page."""
    return path.suffix.lower() in PAGE_SUFFIXES


class Page(Protocol[Kept]):
    """What `ReportPage` and `ComparePage` have in common."""

    def keep(self, exhibit: Exhibit) -> Kept:
        """Make pictures, and put them aside."""
        ...

    def add(self, record: dict[str, Any], kept: Kept | None) -> None:
        """Add an input."""
        ...

    def write(self, path: Path, *, title: str, replace: bool, not_begun: int) -> None:
        """Write the page."""
        ...

    def close(self) -> None:
        """Give the disk back."""
        ...


class PageFile(Generic[Kept]):
    """A page with its file; when something fails, it says so and gives the page up."""

    def __init__(
        self,
        path: Path,
        make: Callable[[], Page[Kept]],
        title: str,
        on_failure: Callable[[str], None],
        replace: bool,
    ) -> None:
        """Begin a page.

        Args:
            path: where it will be.
            make: makes the page.
            title: of the page.
            on_failure: called once, with a line, if it cannot be made.
            replace: a page that is there may be replaced.

        Raises:
            SettingsError: it cannot be written, or is there and is no page of ours, or must not
                be replaced.
        """
        self._path, self._title, self._replace = path, title, replace
        self._name = display_name(path)
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._kept: dict[int, tuple[dict[str, Any], Kept]] = {}
        """By the identity of the record, which is kept alive, so that none comes with the same."""
        try:
            self._check(path)
            self._page: Page[Kept] | None = make()
        except OSError as error:
            raise SettingsError(
                f"cannot write the page {self._name}: {reason_of(error)}"
            ) from error

    def keep(self, record: dict[str, Any], exhibit: Exhibit) -> None:
        """Make the pictures that belong to a record; several threads may do so."""
        with self._giving_up():
            if self._page is not None:
                kept = self._page.keep(exhibit)
                with self._lock:
                    self._kept[id(record)] = record, kept

    def write(self, record: dict[str, Any]) -> None:
        """Add an input that has ended."""
        with self._lock:
            _, kept = self._kept.pop(id(record), (record, None))
        with self._giving_up():
            if self._page is not None:
                self._page.add(record, kept)

    def finish(self, not_begun: int) -> None:
        """Write the page into its file.

        Args:
            not_begun: inputs that were not, because somebody ended the batch.
        """
        with self._giving_up():
            if self._page is not None:
                self._page.write(
                    self._path, title=self._title, replace=self._replace, not_begun=not_begun
                )
                self._page.close()

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        """A page that fails is no reason to end a batch, or to call a picture failed."""
        try:
            yield
        except (OSError, DmsrError) as error:
            with self._lock:
                is_first, self._page = self._page is not None, None
            if is_first:
                reason = str(error) if isinstance(error, DmsrError) else reason_of(error)
                self._on_failure(f"the page {self._name} is given up: {reason}")

    def _check(self, path: Path) -> None:
        from dmsr_cli.pages import PAGE_BEGINNING

        if not path.parent.is_dir():
            raise SettingsError(
                f"cannot write the page {self._name}: there is no folder "
                f"{display_name(path.parent)}; create it first"
            )
        if not is_there(path):
            return
        if not path.is_file():
            raise SettingsError(f"{self._name} exists and is not a file: choose another name")
        with path.open("rb") as file:
            if file.read(len(PAGE_BEGINNING)) != PAGE_BEGINNING:
                raise SettingsError(
                    f"{self._name} exists and is no page of dmsr: choose another name"
                )
        if not self._replace:
            raise SettingsError(
                f"the page {self._name} exists already: use --overwrite, or another name"
            )


def report_file(
    path: Path, on_failure: Callable[[str], None], *, replace: bool
) -> PageFile[KeptFindings]:
    """What was found in each picture; raises as `PageFile`."""
    from dmsr_cli.pages import ReportPage

    return PageFile(path, ReportPage, "What is wrong with these pictures", on_failure, replace)


def comparison_file(
    path: Path, on_failure: Callable[[str], None], *, replace: bool
) -> PageFile[KeptComparison]:
    """Each picture before and after; raises as `PageFile`."""
    from dmsr_cli.pages import ComparePage

    return PageFile(path, ComparePage, "Before and after", on_failure, replace)
