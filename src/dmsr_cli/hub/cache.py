"""The Hub library's cache on this computer, looked at without any request."""

from __future__ import annotations

from pathlib import Path

from dmsr_cli.errors import WeightsError
from dmsr_cli.files import display_name, reason_of
from dmsr_cli.hub.address import HubFile
from dmsr_cli.hub.explaining import explained

BAD_SUFFIX = ".bad"
"""Of damaged files that were moved aside."""


def find_cached(where: HubFile) -> Path | None:
    """The path of a Hub file in the local cache, without any request; None if it is not there."""
    with explained(where):
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(where.repo, str(where.file), revision=where.revision)
    return Path(path) if isinstance(path, str) else None


def cached_weights(where: HubFile) -> list[str]:
    """The .safetensors files of a repository that are in the local cache, without any request."""
    with explained(where):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            found = snapshot_download(where.repo, revision=where.revision, local_files_only=True)
        except LocalEntryNotFoundError:
            return []
    folder = Path(found)
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors"))


def set_aside(path: Path) -> Path:
    """Give a damaged file of the cache a name under which nobody uses it; returns that.

    A name in the cache is a link to the content, where the system has links: the links go, and the
    content stays, as NAME.bad. What is fetched next begins anew.

    Raises:
        WeightsError: the cache cannot be changed.
    """
    try:
        content = path
        while content.is_symlink():
            target = content.parent / content.readlink()
            content.unlink()
            content = target
        aside = content.parent.resolve() / (content.name + BAD_SUFFIX)
        return content.replace(aside)
    except OSError as error:
        raise WeightsError(
            f"{display_name(path)} is damaged and cannot be moved aside: {reason_of(error)}; "
            "delete it, or set HF_HOME to another folder"
        ) from None
