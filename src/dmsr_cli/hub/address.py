"""Addresses of files on the Hub."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dmsr_cli.errors import SettingsError
from dmsr_cli.safe_names import is_inner_path

HUB_PREFIX = "hf://"
REPOSITORY_PATTERN = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class HubFile:
    """A file of a Hub repository; without `file`, the only .safetensors file of it is meant."""

    repo: str
    file: str | None
    revision: str = "main"

    def __post_init__(self) -> None:
        # The names of folders in the cache; the Hub's own lists of files are not trusted either.
        for path in (self.repo, self.file or "-", self.revision):
            if not is_inner_path(path):
                raise SettingsError(f"{path!r} is no safe name for a repository, file or revision")

    def __str__(self) -> str:
        file = f"/{self.file}" if self.file else ""
        revision = f"@{self.revision}" if self.revision != "main" else ""
        return f"{HUB_PREFIX}{self.repo}{file}{revision}"


def parse_hub_address(address: str) -> HubFile:
    """Take `hf://owner/repo[/file][@revision]` apart.

    Raises:
        SettingsError: the address has another form.
    """
    location, at, revision = address.removeprefix(HUB_PREFIX).partition("@")
    owner, _, rest = location.partition("/")
    name, slash, file = rest.partition("/")
    repo = f"{owner}/{name}"
    if (
        not REPOSITORY_PATTERN.fullmatch(repo)
        or (slash and not file)
        or (at and not re.fullmatch(r"[\w./-]+", revision))
        or not all(map(is_inner_path, filter(None, (repo, file, revision))))
    ):
        raise SettingsError(f"{address!r} is not of the form hf://owner/repo[/file][@revision]")
    return HubFile(repo, file or None, revision or "main")
