"""PyAV, the binding to FFmpeg: an extra that is imported when a clip is used, not before."""

from __future__ import annotations

import os
from types import ModuleType
from typing import TYPE_CHECKING

from dmsr_cli.errors import ImageError
from dmsr_cli.files import display_name, reason_of

if TYPE_CHECKING:
    from pathlib import Path

_INSTALL = 'pip install "dmsr-cli[video]"'


def load_av(path: Path) -> ModuleType:
    """PyAV, silenced; `path` is the clip it is needed for.

    Raises:
        ImageError: it is not installed, or too old.
    """
    try:
        import av
    except ImportError as error:
        raise ImageError(
            f"{display_name(path)} is a clip, which needs PyAV ({reason_of(error)}): {_INSTALL}"
        ) from None
    if not hasattr(av.container.Container, "set_chapters"):
        raise ImageError(
            f"{display_name(path)} is a clip, which needs PyAV 16 or newer, "
            f"not {av.__version__}: {_INSTALL}"
        )
    av.logging.set_level(None)  # what matters of FFmpeg's messages comes as an error besides
    os.environ.setdefault("SVT_LOG", "1")  # an AV1 encoder with messages of its own: errors only
    return av
