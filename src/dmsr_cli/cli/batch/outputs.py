"""Files that commands leave beside a result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dmsr_cli.degradation_file import SUFFIX, write_degradation
from dmsr_cli.errors import ExistsError, ImageError
from dmsr_cli.files import atomic_write, display_name, is_there, reason_of
from dmsr_cli.images import write_image
from dmsr_cli.visual import kernel_picture, noise_picture

if TYPE_CHECKING:
    from dmsr_cli.pipeline import Degradation


class Origin(NamedTuple):
    """Where a degradation comes from."""

    scale: int
    """Of the model that estimated it."""
    model: str
    source: str
    """The picture's name, without folders."""


def degradation_files(stem: Path) -> list[Path]:
    """What `save_degradation` writes.

    STEM_kernel and STEM_noise, each as .png and .npy, and STEM.dmsr.json.
    """
    maps = [
        Path(f"{stem}_{name}{suffix}")
        for name in ("kernel", "noise")
        for suffix in (".png", ".npy")
    ]
    return [*maps, Path(f"{stem}{SUFFIX}")]


def save_degradation(
    degradation: Degradation,
    stem: Path,
    origin: Origin,
    may_replace: Callable[[Path], bool] = lambda path: True,
    recorder: Callable[[Path], Callable[[Path], None] | None] = lambda path: None,
) -> None:
    """Write kernel and noise map, each as a picture (.png) and as an array (.npy), and a file.

    That file is for --degradation. For each of the files, `may_replace` says whether one that is
    there may be replaced, and `recorder` gives what is called before it gets its name.

    Raises:
        ExistsError: a file is there and must not be replaced.
        DmsrError: a file cannot be written.
    """
    kernel_png, kernel_npy, noise_png, noise_npy, settings = degradation_files(stem)
    for path, picture in (
        (kernel_png, kernel_picture(degradation.kernel)),
        (noise_png, noise_picture(degradation.noise_map)),
    ):
        write_image(picture, path, replace=may_replace(path), before_rename=recorder(path))
    for path, array in ((kernel_npy, degradation.kernel), (noise_npy, degradation.noise_map)):
        writing = atomic_write(path, replace=may_replace(path), before_rename=recorder(path))
        with writing as temporary:
            np.save(temporary, array)
    write_degradation(
        *(settings, degradation),
        **origin._asdict(),
        replace=may_replace(settings),
        before_rename=recorder(settings),
    )


def consistency_files(stem: Path) -> list[Path]:
    """What `save_consistency` writes: STEM_consistency.png and .npy."""
    return [Path(f"{stem}_consistency{suffix}") for suffix in (".png", ".npy")]


def save_consistency(
    strength: NDArray[np.float32],
    photo: NDArray[np.float32],
    stem: Path,
    may_replace: Callable[[Path], bool] = lambda path: True,
    recorder: Callable[[Path], Callable[[Path], None] | None] = lambda path: None,
) -> None:
    """Write the map of a `Consistency`, as colours over the photo (.png) and as an array (.npy).

    The rest is as for `save_degradation`.
    """
    from dmsr_cli.consistency import consistency_overlay  # with torch, which not all need

    png, npy = consistency_files(stem)
    overlay = consistency_overlay(photo, strength)
    write_image(overlay, png, replace=may_replace(png), before_rename=recorder(png))
    with atomic_write(npy, replace=may_replace(npy), before_rename=recorder(npy)) as temporary:
        np.save(temporary, strength)


def refuse_existing(paths: Iterable[Path], overwrite: bool) -> None:
    """Raise ImageError if one of the files is there and must not be replaced."""
    for path in paths:
        if is_there(path) and not overwrite:
            raise ExistsError(f"{display_name(path)} exists already: use --overwrite or another -o")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; ImageError if that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ImageError(
            f"cannot make the folder {display_name(folder)}: something else has its name, or that "
            "of one above it; use another -o"
        ) from None
    except OSError as error:
        raise ImageError(
            f"cannot make the folder {display_name(folder)}: {reason_of(error)}"
        ) from None
