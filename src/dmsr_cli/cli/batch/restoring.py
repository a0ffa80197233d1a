"""How one picture, or one frame, comes to its size: models, passes, guides."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dmsr_cli.cli.batch.pictures import of_pass
from dmsr_cli.cli.batch.settings import Batch, names_of
from dmsr_cli.cli.batch.steering import Estimated
from dmsr_cli.errors import ImageError, SettingsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dmsr_cli.cli.batch.jobs import Job
    from dmsr_cli.cli.batch.pictures import Picture
    from dmsr_cli.consistency import Consistency
    from dmsr_cli.images import Image, Provenance
    from dmsr_cli.inference.engine import Note
    from dmsr_cli.pipeline import Degradation, Model

Estimate = Callable[["Image", "Model"], "Degradation"]


@dataclass(frozen=True)
class Plan:
    """How one picture comes to its size."""

    factor: int | float
    height: int
    width: int
    models: list[Model]
    models_used: str
    """For the line about the picture; empty where the line about the batch said it already."""
    is_resized: bool

    def dtype_after(self, number: int, depth: int) -> str:
        """What a pass leaves: as little as its use allows, since large results fill the memory."""
        if number < len(self.models) - 1:
            return "float32"
        return "uint16" if self.is_resized or depth > 8 else "uint8"


@dataclass(frozen=True)
class Restored:
    """What is to be written, and told, of one input."""

    plan: Plan
    degradation: Degradation
    """As steered."""
    estimated: Estimated
    kernel_width: float
    """Of the degradation; kept, as finding it out is work for torch."""
    result: Image
    """Of several frames, the first."""
    before: Image | None
    """The input, if something that is saved shows it."""
    frames: int | None = None
    """How many there are, written already; None for a still, which is not written yet."""
    consistency: Consistency | None = None
    """How far the first network's result explains the input; None where it was not checked."""


class Made(NamedTuple):
    """What a picture, or a frame, became, and how."""

    result: Image
    degradation: Degradation
    """As steered."""
    estimated: Estimated
    consistency: Consistency | None

    def ready(self, plan: Plan, before: Image | None) -> Restored:
        """It as what is to be written."""
        return Restored(
            *(plan, self.degradation, self.estimated, self.degradation.kernel_width),
            *(self.result, before),
            consistency=self.consistency,
        )


def plan_picture(job: Job, image: Image, batch: Batch, suffix: str) -> Plan:
    """Decide on models and size; refuse what is out of reach before any work is done.

    Args:
        job: for messages.
        image: the picture, or a frame.
        batch: what is wanted.
        suffix: of the format that it will be written in.

    Raises:
        ImageError: the size is out of reach of the models, or too large for the format.
    """
    from dmsr_cli.resizing import OutputSize, check_output

    size = batch.wanted.size_of(image.height, image.width)
    factor = batch.wanted.factor_of(image.height, image.width)
    try:
        models = batch.models_for(factor)
        scale = math.prod(model.scale for model in models)
        restored = image.height * scale, image.width * scale
        check_output(size, restored, suffix)
    except (SettingsError, ImageError) as error:
        raise ImageError(f"{job.source_name}: {error}") from None
    is_resized = restored != size
    used = f"{names_of(models)}{' resized' if is_resized else ''}, "
    plain = len(models) == 1 and not is_resized and not isinstance(batch.wanted, OutputSize)
    return Plan(factor, *size, models, "" if plain else used, is_resized)


def restore_image(
    image: Image,
    plan: Plan,
    batch: Batch,
    on_progress: Callable[[float], None],
    on_note: Note,
    guides: Guides | None = None,
    *,
    check: bool = True,
) -> Made:
    """Restore with one network, or with two in turn, and resize.

    The options steer the first pass. What it made has a degradation of its own.

    Args:
        image: the picture, or a frame.
        plan: for this picture.
        batch: what is wanted.
        on_progress: called with the share that is done, up to 1.
        on_note: called with a line for people when something slower is tried.
        guides: what the frames of a clip share.
        check: whether to see how far the result of the first pass explains the picture.

    Returns:
        What it became, and how.
    """
    from dmsr_cli import pipeline
    from dmsr_cli.consistency import check_consistency
    from dmsr_cli.resizing import resize_image

    first = estimated = consistency = None
    for number, model in enumerate(plan.models):
        guide = pipeline.estimate(image, model, on_note=on_note)
        if guides is not None:
            guide = guides.shared(number, guide)
        if first is None:
            estimated = guide
            first = guide = batch.steering.steered(guide)
        restored = pipeline.upscale(
            image,
            model,
            guide,
            batch.options.tile,
            of_pass(on_progress, number, plan.models),
            overlap=batch.options.overlap,
            dtype=plan.dtype_after(number, image.depth),
            on_note=on_note,
        )
        if check and number == 0 and estimated is not None:
            consistency = check_consistency(
                *(image, restored, guide.kernel, estimated.noise_map, model.scale, model.device),
                is_steered=guide is not estimated,
            )
        image = restored
    assert first is not None, "a plan has a pass"
    assert estimated is not None, "it is found with the first"
    said = Estimated(estimated.kernel_width, estimated.noise_level)
    return Made(resize_image(image, plan.height, plan.width), first, said, consistency)


class Guides:
    """The blur kernel that the frames of a clip share, for each pass.

    The noise map is that of each frame: it is an estimate of the noise itself, not of its strength.
    """

    def __init__(self, every: int | None) -> None:
        """Kept from the first frame on, or for so many frames."""
        self._every = every
        self._kernels: dict[int, NDArray[np.float32]] = {}
        self._frame = 0

    def next_frame(self) -> None:
        """From now on, it is about the next one."""
        self._frame += 1

    def shared(self, number: int, found: Degradation) -> Degradation:
        """What guides a pass over this frame, from what was found in it."""
        due = self._every is not None and self._frame % self._every == 0
        if number not in self._kernels or due:
            self._kernels[number] = found.kernel
        return dataclasses.replace(found, kernel=self._kernels[number])


def provenance_of(restored: Restored, picture: Picture) -> Provenance | None:
    """The note that goes into the result's metadata; None if it is not wanted."""
    from dmsr_cli import __version__
    from dmsr_cli.cli.batch.fingerprint import digest_of, settings_of
    from dmsr_cli.images import Provenance

    options = picture.batch.options
    if options.strip or not options.provenance:
        return None
    plan, suffix = restored.plan, picture.result_suffix(restored.result.format)
    return Provenance(
        version=__version__,
        model=names_of(plan.models),
        sha256="+".join(model.sha256 for model in plan.models),
        scale=plan.factor,
        kernel_width=restored.kernel_width,
        noise_level=round(restored.degradation.noise_level, 2),
        settings=digest_of(settings_of(picture.batch, suffix)),
        source=picture.source_digest,
    )
