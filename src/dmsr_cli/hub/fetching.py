"""Fetching one file of the Hub into the cache."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dmsr_cli.errors import WeightsError
from dmsr_cli.files import sha256_of
from dmsr_cli.hub.address import HubFile
from dmsr_cli.hub.cache import find_cached, set_aside
from dmsr_cli.hub.connection import endpoint, is_offline
from dmsr_cli.hub.explaining import explained, is_unreachable, not_on_this_computer, retry_after
from dmsr_cli.hub.listing import find_weights

OnBytes = Callable[[int, "int | None"], None]
"""Called with the bytes that came, and those of the whole file if it is known."""

PATIENCE = 60.0
"""Seconds to wait where the Hub asks for patience; a longer wait is left to the user."""
_BLOCK_BYTES = 2**18
"""What is taken at a time: the library's 10 MB show no progress, and are lost at a cut."""
_PAUSES = (1.0, 3.0)
"""Seconds before a busy Hub is asked again, if it does not say when."""
_BUSY = {429, 500, 502, 503, 504}


def download(
    where: HubFile,
    *,
    force: bool = False,
    token: str | bool | None = None,
    on_bytes: OnBytes | None = None,
) -> Path:
    """The path of a Hub file in the local cache, fetched first if it is not there yet.

    A connection that is cut is taken up where it ended. Content with another SHA-256 than the Hub
    promised is moved aside. Where the Hub cannot be reached, what is in the cache is taken.

    Args:
        where: without a file, its only .safetensors file is meant.
        force: fetch it even if it is there.
        token: instead of HF_TOKEN; False for none.
        on_bytes: told of the progress, from this thread or another one.

    Raises:
        WeightsError: the file is not there, not allowed, or cannot be fetched now.
    """
    if where.file is None:
        where = HubFile(where.repo, find_weights(where), where.revision)
    if is_offline():
        cached = find_cached(where)
        if cached is None or force:
            raise WeightsError(not_on_this_computer(where))
        return cached
    try:
        sha256 = _promised_sha256(where, token)
        return _fetch(where, sha256, force=force, token=token, on_bytes=on_bytes)
    except WeightsError as error:
        cached = find_cached(where) if is_unreachable(error) and not force else None
        if cached is None:
            raise
        return cached


def _fetch(
    where: HubFile,
    sha256: str | None,
    *,
    force: bool,
    token: str | bool | None,
    on_bytes: OnBytes | None,
) -> Path:
    before = find_cached(where)
    options: dict[str, Any] = {}
    with explained(where):
        from huggingface_hub import constants, hf_hub_download

        constants.DOWNLOAD_CHUNK_SIZE = min(constants.DOWNLOAD_CHUNK_SIZE, _BLOCK_BYTES)
        if "tqdm_class" in inspect.signature(hf_hub_download).parameters:
            options["tqdm_class"] = _bar_class(on_bytes)
        path = Path(
            hf_hub_download(
                where.repo,
                str(where.file),
                revision=where.revision,
                endpoint=endpoint(),
                force_download=force,
                token=token,
                **options,
            )
        )
        if sha256 is None or (path == before and not force):
            return path
        with path.open("rb") as file:
            found = sha256_of(file)
    if found != sha256:
        set_aside(path)
        raise WeightsError(
            f"{where} came damaged, and is not used: SHA-256 {found[:12]}... instead of "
            f"{sha256[:12]}...; try again, and check the network connection"
        )
    return path


def _promised_sha256(where: HubFile, token: str | bool | None) -> str | None:
    """The SHA-256 that the Hub has for a large file, None of a small one.

    It is asked here, before the library asks by itself, because that waits as long as a busy Hub
    likes, in silence, and five times a minute for one that does not answer.
    """
    pauses = iter(_PAUSES)
    while True:
        try:
            with explained(where):
                etag = _etag(where, token)
            return etag if etag and re.fullmatch(r"[0-9a-f]{64}", etag) else None
        except WeightsError as error:  # noqa: PERF203 # at most three times
            time.sleep(_pause_after(error, next(pauses, None)))


def _etag(where: HubFile, token: str | bool | None) -> str | None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(where.repo, str(where.file), revision=where.revision, endpoint=endpoint())
    return get_hf_file_metadata(url, token=token).etag


def _pause_after(error: WeightsError, pause: float | None) -> float:
    """Seconds until a busy Hub is asked again; raises the error if it is to be told instead."""
    response = getattr(error.__cause__, "response", None)
    if pause is None or getattr(response, "status_code", None) not in _BUSY:
        raise error
    wanted = retry_after(response)
    if wanted is not None and wanted > PATIENCE:
        raise error
    return pause if wanted is None else wanted


def _bar_class(on_bytes: OnBytes | None) -> type:
    """What the Hub library reports to in place of a progress bar of its own."""

    class Bar:
        # Plain HTTP makes one bar; the other protocol of the Hub makes a second, of what crosses
        # the network, where the first one counts what is in the file.
        def __init__(self, *args: Any, total: int | None = None, initial: int = 0, **rest: Any):
            self.total, self.n = total, initial
            self.is_counted = "downloading bytes" not in str(rest.get("desc", ""))
            self.format_dict: dict[str, Any] = {}
            self.update(0)

        def update(self, n: float | None = 1) -> None:
            self.n += int(n or 0)
            if on_bytes is not None and self.is_counted:
                on_bytes(self.n, self.total)

        def nothing(self, *args: Any, **rest: Any) -> None:
            """All else that a bar can do is for the eye."""

        close = refresh = reset = display = clear = nothing
        set_description = set_description_str = set_postfix = set_postfix_str = nothing

        def __enter__(self) -> Bar:
            return self

        __exit__ = nothing

    return Bar
