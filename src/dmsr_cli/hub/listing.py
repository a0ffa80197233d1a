"""Which weight files a Hub repository has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from dmsr_cli.errors import WeightsError
from dmsr_cli.hub.address import HUB_PREFIX, HubFile
from dmsr_cli.hub.cache import cached_weights
from dmsr_cli.hub.connection import endpoint, is_offline
from dmsr_cli.hub.explaining import explained, is_unreachable, not_on_this_computer


def find_weights(
    where: HubFile, scale: int | None = None, *, token: str | bool | None = None
) -> str:
    """The name of the .safetensors file of a Hub repository that is meant.

    It is the only one, or the only one whose name ends in the scale, as mine-x4.safetensors.
    `token` is used instead of HF_TOKEN; False is none.

    Raises:
        WeightsError: there is none, or it is not clear which one, or the Hub cannot be asked.
    """
    found = list_weights(where, token)
    fitting = [file for file in found if scale is not None and scale_in_name(file) == scale]
    if len(found) == 1 or len(fitting) == 1:
        return (fitting or found)[0]
    advice = "" if scale else ", or say -s 2, 3 or 4 if their names end in -x2, -x3, -x4"
    raise WeightsError(
        f"{where} holds {len(found)} weight files; name one of them, "
        f"{HUB_PREFIX}{where.repo}/FILE{advice}: {_shortened(found)}"
    )


def weights_by_scale(where: HubFile) -> dict[int, str]:
    """The weight files of a repository that holds one for each of several scales; else none."""
    found: dict[int, str] = {}
    for file in list_weights(where):
        scale = scale_in_name(file)
        if scale is None or scale in found:
            return {}
        found[scale] = file
    return dict(sorted(found.items())) if len(found) > 1 else {}


def scale_in_name(file: str) -> int | None:
    """The scale that the name of a weight file ends in: 4 of mine-x4.safetensors."""
    ending = re.search(r"(?:^|[-_.])x([2-8])$", PurePosixPath(file).stem, re.ASCII)
    return int(ending[1]) if ending else None


def list_weights(where: HubFile, token: str | bool | None = None) -> list[str]:
    """All .safetensors files of a repository; those in the cache, where the Hub cannot be asked.

    Raises:
        WeightsError: there is none, or the Hub cannot be asked.
    """
    if is_offline():
        cached = cached_weights(where)
        if not cached:
            raise WeightsError(not_on_this_computer(where))
        return cached
    try:
        with explained(where):
            from huggingface_hub import HfApi

            api = HfApi(endpoint=endpoint(), token=token)
            files = api.list_repo_files(where.repo, revision=where.revision)
    except WeightsError as error:
        cached = cached_weights(where) if is_unreachable(error) else []
        if not cached:
            raise
        return cached
    found = sorted(file for file in files if file.endswith(".safetensors"))
    if not found:
        raise WeightsError(f"{where} holds no .safetensors file; name another repository")
    return found


def _shortened(files: Iterable[str]) -> str:
    names = list(files)
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
