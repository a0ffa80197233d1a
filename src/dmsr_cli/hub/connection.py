"""Whether the Hub may be asked, and which Hub that is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_forbidden = 0
"""How many `offline` blocks this process is in; one count for all its threads."""


@contextmanager
def offline(forbid: bool = True) -> Iterator[None]:
    """No request is made to the Hub inside the block; with False, nothing changes."""
    global _forbidden
    _forbidden += forbid
    try:
        yield
    finally:
        _forbidden -= forbid


def why_offline() -> str | None:
    """What forbids requests: "--offline" or "HF_HUB_OFFLINE"; None if nothing does."""
    if _forbidden:
        return "--offline"
    from huggingface_hub import constants

    return "HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else None


def is_offline() -> bool:
    """Whether the Hub must not be asked."""
    return why_offline() is not None


def endpoint() -> str | None:
    """The Hub to ask if the environment names one; read now, not when the library was imported."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
