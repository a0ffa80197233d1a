"""Names that come from elsewhere and become names of files: none may leave its folder."""

from __future__ import annotations

import re

RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
"""Devices of Windows, which have these names in every folder, whatever suffix follows."""
_UNSAFE_CHARACTERS = re.compile(r'[\\:*?"<>|]')
LONGEST_NAME = 255


def is_plain_name(name: str) -> bool:
    """Whether a name means a file in its own folder on every system, Windows included."""
    return (
        0 < len(name.encode(errors="replace")) <= LONGEST_NAME
        and name.isprintable()
        and "/" not in name
        and not _UNSAFE_CHARACTERS.search(name)  # a colon: drives, and streams behind a name
        and not name.endswith((".", " "))  # Windows drops them; this is "." and "..", too
        and not name.startswith(" ")
        and not RESERVED.fullmatch(name)
    )


def is_inner_path(path: str) -> bool:
    """Whether a path with slashes leads to something inside the folder that it starts from."""
    return all(map(is_plain_name, path.split("/")))
