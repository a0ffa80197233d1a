"""Files from the Hugging Face Hub, with every failure turned into one line that says what to do.

The `huggingface_hub` library does the transfer and keeps the cache; its settings hold here too:
HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE. It is imported on first use, because the command
line must start without it.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dmsr_cli.errors import SettingsError, WeightsError
from dmsr_cli.files import reason_of
from dmsr_cli.safe_names import is_inner_path

HUB_PREFIX = "hf://"
REPOSITORY_PATTERN = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


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


def download(where: HubFile, *, force: bool = False) -> Path:
    """The path of a Hub file in the local cache, fetched first if it is not there yet.

    `force` fetches it even so. The content is not checked here.

    Raises:
        WeightsError: the file is not there, not allowed, or cannot be fetched now.
    """
    if where.file is None:
        where = HubFile(where.repo, find_only_weights(where), where.revision)
    with _explained(where):
        from huggingface_hub import hf_hub_download

        path = hf_hub_download(
            where.repo,
            str(where.file),
            revision=where.revision,
            endpoint=_endpoint(),
            force_download=force,
        )
    return Path(path)


def find_cached(where: HubFile) -> Path | None:
    """The path of a Hub file in the local cache, without any request; None if it is not there."""
    with _explained(where):
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(where.repo, str(where.file), revision=where.revision)
    return Path(path) if isinstance(path, str) else None


def find_only_weights(where: HubFile) -> str:
    """The name of the only .safetensors file in a Hub repository.

    Raises:
        WeightsError: there is none, or more than one, or the Hub cannot be asked.
    """
    with _explained(where):
        from huggingface_hub import HfApi

        files = HfApi(endpoint=_endpoint()).list_repo_files(where.repo, revision=where.revision)
    found = sorted(file for file in files if file.endswith(".safetensors"))
    if not found:
        raise WeightsError(f"{where} holds no .safetensors file; name another repository")
    if len(found) > 1:
        raise WeightsError(
            f"{where} holds {len(found)} weight files; name one of them, "
            f"{HUB_PREFIX}{where.repo}/FILE: {', '.join(found)}"
        )
    return found[0]


def _endpoint() -> str | None:
    """The Hub to ask if the environment names one; read now, not when the library was imported."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


@contextmanager
def _explained(where: HubFile) -> Iterator[None]:
    """Turn whatever the Hub library raises into a WeightsError."""
    try:
        yield
    # The library and its HTTP client (another one in each major version) have no common base.
    except Exception as error:
        raise WeightsError(_explanation(error, where)) from error


def _explanation(error: BaseException, where: HubFile) -> str:
    """One line for the user: what went wrong with `where`, and what to do."""
    from huggingface_hub import errors

    # "Not found locally" and "forced download failed" only wrap what really happened.
    wrappers = (errors.LocalEntryNotFoundError, ValueError)
    if isinstance(error, wrappers) and error.__cause__ is not None:
        return _explanation(error.__cause__, where)

    page = f"{_endpoint() or 'https://huggingface.co'}/{where.repo}"
    if isinstance(error, errors.HFValidationError):
        return f"{where}: {where.repo!r} is no valid Hub repository name; check the spelling"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return (
            f"no intact copy of {where} is on this computer, and HF_HUB_OFFLINE forbids "
            "fetching it; unset it, or give a local file with --model FILE"
        )
    if isinstance(error, errors.GatedRepoError):
        return (
            f"access to {where} is restricted; accept its terms at {page}, "
            "then set HF_TOKEN to a token of your account"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{where}: the Hub has no repository {where.repo}, or it is private; "
            "check the name, or set HF_TOKEN to a token that may read it"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{where}: no revision {where.revision!r} there; {page}/branches lists them"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return f"{where} cannot be fetched; check the network connection and try again"
    if isinstance(error, errors.EntryNotFoundError):
        return f"{where}: no such file there; see {page}/tree/{where.revision}"
    if isinstance(error, errors.HfHubHTTPError):
        return _status_explanation(error.response.status_code, where)
    if isinstance(error, errors.FileMetadataError | ValueError):  # ValueError: not JSON
        return (
            f"{where}: the answer does not come from a Hub (a login page or a proxy?); "
            "check the network connection and HF_ENDPOINT"
        )
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return (
            f"{where} cannot be stored in the Hub cache: {error.strerror}; "
            "make room, or set HF_HOME to another folder"
        )
    return (
        f"{where} cannot be fetched ({type(error).__name__}: {reason_of(error)}); "
        "check the network connection and try again"
    )


def _status_explanation(status: int, where: HubFile) -> str:
    """One line for an HTTP status that the Hub library knows no better name for."""
    if status == 401:
        return f"{where}: the Hub refused the login; set HF_TOKEN to a valid token, or unset it"
    if status == 403:
        return f"{where}: the Hub forbids the access; use a HF_TOKEN that may read {where.repo}"
    if status == 429:
        return f"{where}: too many requests to the Hub; wait some minutes, or set HF_TOKEN"
    return f"{where}: the Hub answered with HTTP status {status}; try again later"
