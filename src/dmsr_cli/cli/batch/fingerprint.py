"""The settings that a result depends on, to compare with those that another was made with.

What only says how it is computed (device, precision, tiles) is not among them: it changes rounding
at most.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dmsr_cli.cli.batch.settings import Batch

_DEFAULTS: dict[str, Any] = {
    **{"kernel_width": None, "noise_level": None, "denoise": None, "estimate_every": None},
    **{"frames": (0, None), "quality": None, "strip": False, "provenance": True},
    **{"allow_truncated": False},
}
"""Fields of `UpscaleOptions` that count, each with the value that is left out."""
_FILES = ("degradation", "kernel")
"""Options that name a file, of which the content counts: a digest stands for it."""


def settings_of(batch: Batch, suffix: str) -> dict[str, Any]:
    """The settings of a result that are not the defaults, by the names of their options.

    The format is that of the suffix and not repeated. With --size, a picture's own size
    decides which weights are used, so that all of the family count.
    """
    from dmsr_cli.resizing import Enlargement

    wanted, models, found = batch.wanted, batch.models, dict[str, Any]()
    if isinstance(wanted, Enlargement):
        found["scale"], scales = wanted.factor, batch.scales_for(wanted.factor)
    else:
        found["size"], scales = wanted.label[1:], tuple(models.scales)
        if batch.passes != 1:
            found["passes"] = batch.passes
    found["weights"] = "+".join(map(models.sha256_of, scales))
    for field in dataclasses.fields(batch.options):
        value = getattr(batch.options, field.name)
        if field.name in _DEFAULTS and value != _DEFAULTS[field.name]:
            found[field.name] = list(value) if isinstance(value, tuple) else value
    found |= batch.steering.digests
    if batch.options.strip:
        found.pop("provenance", None)  # there is none in any case
    if not _has_quality(suffix):
        found.pop("quality", None)
    return found


def _has_quality(suffix: str) -> bool:
    from dmsr_cli.images import format_of_suffix

    known = format_of_suffix(suffix)
    return known is None or known.quality  # clips have one


def digest_of(settings: dict[str, Any]) -> str:
    """SHA-256 of settings, in hexadecimal."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def is_noted(digest: str, settings: dict[str, Any]) -> bool:
    """A note's digest stands for settings that make the same result as these."""
    return digest in (digest_of(settings), digest_of(_of_whole_pictures(settings)))


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """How a result was made, "with" or "without" what, where that is not as it is wanted now."""
    if old in (new, _of_whole_pictures(new)):
        return ""
    name = next(name for name in sorted({*old, *new}) if old.get(name) != new.get(name))
    if name == "weights":
        return "with other weights"
    if name in _FILES and name in old and name in new:
        return f"with another --{name} file"
    was, wanted = _option(name, old.get(name)), _option(name, new.get(name))
    if not was:
        return f"without {wanted}"
    return f"with {was}, not {wanted}" if wanted else f"with {was}"


def _of_whole_pictures(settings: dict[str, Any]) -> dict[str, Any]:
    """A picture that was read without --allow-truncated is the same with it: it was whole."""
    return {name: value for name, value in settings.items() if name != "allow_truncated"}


def _option(name: str, value: Any) -> str:
    """A setting as it stands on the command line; empty for a default."""
    if value is None:
        return ""
    if name in _FILES:
        return f"--{name}"
    if isinstance(value, list):
        value = ":".join("" if part is None else str(part) for part in value)
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{option}" if value else f"--no-{option}"
    return f"--{option} {value}"
