"""What the records say of consistency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dmsr_cli.consistency import Consistency
    from dmsr_cli.images import Image
    from dmsr_cli.pipeline import Degradation, Model

NOT_CHECKED: Mapping[str, Any] = {"consistency": None, "damage_in_range": None}
"""The fields of a picture that was not checked."""


def fields_of(consistency: Consistency | None) -> Mapping[str, Any]:
    """The fields of a picture that was, if it was."""
    if consistency is None:
        return NOT_CHECKED
    return {
        "consistency": round(consistency.decibels, 2),
        "damage_in_range": consistency.is_in_range,
    }


def warnings_of(consistency: Consistency | None) -> Sequence[str]:
    """What a person has to be told, at most one line."""
    warning = None if consistency is None else consistency.warning
    return [] if warning is None else [warning]


def check_estimate(image: Image, degradation: Degradation, model: Model) -> Consistency:
    """Restore a picture with its estimate only to see how far the result explains it."""
    import numpy as np

    from dmsr_cli.consistency import check_consistency
    from dmsr_cli.pipeline import upscale

    result = upscale(image, model, degradation, dtype=np.uint8 if image.depth <= 8 else np.uint16)
    kernel, noise_map = degradation.kernel, degradation.noise_map
    return check_consistency(image, result, kernel, noise_map, model.scale, model.device)
