"""What the Hub library raises, turned into one line that says what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dmsr_cli.errors import WeightsError
from dmsr_cli.files import reason_of
from dmsr_cli.hub.address import HubFile
from dmsr_cli.hub.connection import endpoint, why_offline

_DISK_ERRORS = {
    *(errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EROFS, errno.EACCES),
    *(errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG),
}


class UnreachableError(WeightsError):
    """The Hub does not answer, or not as a Hub: what is in the cache may be used instead."""


def is_unreachable(error: WeightsError) -> bool:
    """Whether it is the connection that is wrong, not what was asked for."""
    return isinstance(error, UnreachableError)


def not_on_this_computer(where: HubFile) -> str:
    """The line for a file that is missing and must not be fetched."""
    return (
        f"no intact copy of {where} is on this computer, and {why_offline()} forbids fetching it; "
        f"fetch it where there is a network (dmsr weights pull), or give a file with --model FILE"
    )


def retry_after(response: Any) -> float | None:
    """Seconds that a Hub that is busy asks to wait, if it says so as a number."""
    headers = getattr(response, "headers", None) or {}
    text = str(headers.get("Retry-After", ""))
    return float(text) if text.isascii() and text.isdigit() and len(text) < 9 else None


@contextmanager
def explained(where: HubFile, *, writing: bool = False) -> Iterator[None]:
    """Turn whatever the Hub library raises into a WeightsError.

    Args:
        where: what is asked for.
        writing: something is put there.
    """
    try:
        yield
    except WeightsError:
        raise
    # The library and its HTTP client (another one in each major version) have no common base.
    except Exception as error:
        cause = _unwrapped(error)
        kind = UnreachableError if _may_use_cache(cause) else WeightsError
        raise kind(_explanation(cause, where, writing)) from cause


def _unwrapped(error: BaseException) -> BaseException:
    """What really happened, where the library only says that it did not work."""
    from huggingface_hub import errors

    # "Not found locally", "forced download failed" and "error while uploading" only wrap.
    while (
        type(error) in (errors.LocalEntryNotFoundError, ValueError, RuntimeError)
        and error.__cause__ is not None
    ):
        error = error.__cause__
    return error


def _may_use_cache(error: BaseException) -> bool:
    from huggingface_hub import errors

    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return False
    gone = (errors.RevisionNotFoundError, errors.EntryNotFoundError, errors.HFValidationError)
    return isinstance(error, errors.LocalEntryNotFoundError) or not isinstance(error, gone)


def _explanation(error: BaseException, where: HubFile, writing: bool) -> str:
    """One line for the user: what went wrong with `where`, and what to do."""
    from huggingface_hub import errors

    page = f"{endpoint() or 'https://huggingface.co'}/{where.repo}"
    may = "write to it" if writing else "read it"
    done = "pushed" if writing else "fetched"
    if isinstance(error, errors.HFValidationError):
        return f"{where}: {where.repo!r} is no valid Hub repository name; check the spelling"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return not_on_this_computer(where)
    if isinstance(error, errors.GatedRepoError):
        return (
            f"access to {where} is restricted; accept its terms at {page}, "
            "then set HF_TOKEN to a token of your account"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{where}: the Hub has no repository {where.repo}, or it is private; "
            f"check the name, or set HF_TOKEN to a token that may {may}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{where}: no revision {where.revision!r} there; {page}/branches lists them"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return f"{where} cannot be fetched; check the network connection and try again"
    if isinstance(error, errors.EntryNotFoundError):
        return f"{where}: no such file there; see {page}/tree/{where.revision}"
    if isinstance(error, errors.HfHubHTTPError):
        return _status_explanation(error, where, may)
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
    if isinstance(error, OSError) and "onsistency check" in str(error):
        return (
            f"{where}: what came is not the whole file (a login page or a proxy?); "
            "check the network connection and try again"
        )
    return (
        f"{where} cannot be {done} ({type(error).__name__}: {reason_of(error)[:120]}); "
        "check the network connection and try again"
    )


def _status_explanation(error: Any, where: HubFile, may: str) -> str:
    """One line for an HTTP status that the Hub library knows no better name for."""
    status = error.response.status_code
    if status == 401:
        return f"{where}: the Hub refused the login; set HF_TOKEN to a valid token, or unset it"
    if status == 403:
        return f"{where}: the Hub forbids the access; use a HF_TOKEN that may {may}"
    if status == 412:
        return f"{where} was changed by somebody else just now; look at it and try again"
    if status == 429:
        wanted = retry_after(error.response)
        wait = "some minutes" if wanted is None else f"{wanted:g} seconds"
        return f"{where}: too many requests to the Hub; wait {wait}, or set HF_TOKEN"
    return f"{where}: the Hub answered with HTTP status {status}; try again later"
