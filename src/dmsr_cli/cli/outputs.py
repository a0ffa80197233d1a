"""Files that commands leave beside a result."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dmsr_cli.errors import ImageError
from dmsr_cli.files import atomic_write, reason_of
from dmsr_cli.images import write_image
from dmsr_cli.pipeline import Degradation
from dmsr_cli.visual import kernel_picture, noise_picture


def save_degradation(degradation: Degradation, stem: Path, overwrite: bool) -> None:
    """Write STEM_kernel and STEM_noise, each as a picture (.png) and as an array (.npy).

    Raises:
        ImageError: one of the files exists and `overwrite` is false, or cannot be written.
    """
    kernel, noise = degradation.kernel, degradation.noise_map
    parts = (("kernel", kernel, kernel_picture(kernel)), ("noise", noise, noise_picture(noise)))
    for name, _, _ in parts:
        for suffix in (".png", ".npy"):
            refuse_existing(Path(f"{stem}_{name}{suffix}"), overwrite)
    for name, array, picture in parts:
        write_image(picture, Path(f"{stem}_{name}.png"))
        with atomic_write(Path(f"{stem}_{name}.npy")) as temporary:
            np.save(temporary, array)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise ImageError if the file is there and must not be replaced."""
    if path.exists() and not overwrite:
        raise ImageError(f"{path} exists already: use --overwrite or another -o")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; ImageError if that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"cannot make the folder {folder}: {reason_of(error)}") from None
