"""Blur kernels that a person gives: as an array (.npy), as a picture (PNG), or as text."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dmsr_cli.errors import ImageError, SettingsError
from dmsr_cli.files import check_is_file, display_name, reason_of
from dmsr_cli.images import Limits, read_image

Pixels = NDArray[np.float32]

SIDE = 15
"""Taps in a row and in a column of the kernels that the project's networks take."""
MOST_BYTES = 2**20
"""A kernel in any of these forms takes a few thousand."""
SUM_TOLERANCE = 1e-5
"""A kernel whose sum is this near to 1 is left as it is, so that one of ours comes back exactly."""

_LARGEST_PICTURE = Limits(max_pixels=2**22)
_FORMS = "a .npy array, a grey PNG picture, or rows of numbers as text"


def read_kernel(path: str | Path, side: int = SIDE) -> Pixels:
    """Read a blur kernel and normalise it; which of the forms it has is seen in its first bytes.

    A picture has a pixel for each tap, or the same whole number of pixels, as our own
    NAME_kernel.png has: that one is scaled to its largest tap and has 8 bits, so that what comes
    back is rounded. Text has a row on each line, with white space or commas between the numbers;
    what follows a # is left out.

    Args:
        path: the file.
        side: taps in a row and in a column.

    Returns:
        (side, side) float32, not negative, sums to 1; in HR pixels, as `Degradation.kernel` is.

    Raises:
        SettingsError: the file cannot be read, or is no such kernel.
    """
    name = display_name(path)
    content = read_small_file(Path(path), "kernel")
    try:
        if content.startswith(b"\x93NUMPY"):
            values = _array_of(content)
        elif content.startswith(b"\x89PNG"):
            values = _taps_of_picture(Path(path), side)
        else:
            values = _numbers_of_text(content)
        if values.shape != (side, side):
            shape = "x".join(map(str, values.shape)) or "a single number"
            raise ValueError(f"it is {shape}, and must be {side}x{side}")
        return normalised(values)
    except ValueError as error:
        raise SettingsError(f"{name} cannot be used as a blur kernel: {error}") from None


def normalised(values: NDArray[np.float64]) -> Pixels:
    """A kernel as the networks take it: float32, with the sum 1.

    Raises:
        ValueError: it has a negative value, one that is not finite, or only zeros.
    """
    if not np.isfinite(values).all():
        raise ValueError("it has a value that is not finite; correct it")
    if values.min() < 0:
        raise ValueError(f"it has a negative value ({values.min():.4g}); set it to 0 or above")
    largest = float(values.max())
    if largest == 0:
        raise ValueError("all its values are 0; at least one must be above")
    shares = values / largest  # the sum of huge values would be infinite
    if abs(float(shares.sum()) * largest - 1) > SUM_TOLERANCE:
        values = shares / shares.sum()
    return values.astype(np.float32)


def read_small_file(path: Path, kind: str) -> bytes:
    """The bytes of a file that holds a setting; SettingsError if they cannot be had."""
    name = display_name(path)
    try:
        check_is_file(path, kind)
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise SettingsError(f"cannot read {name}: no such file") from None
    except (ImageError, OSError, ValueError) as error:  # ValueError: a name with a zero in it
        raise SettingsError(f"cannot read {name}: {reason_of(error)}") from None
    if len(content) > MOST_BYTES:
        raise SettingsError(f"cannot read {name}: it is too large for a {kind} file; name another")
    return content


def _array_of(content: bytes) -> NDArray[np.float64]:
    try:
        values = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # NumPy evaluates the header, and raises about every class there is
        raise ValueError(f"it is no whole .npy file ({reason_of(error)}); save it again") from None
    if values.dtype.kind not in "fiu":
        raise ValueError(f"its values are of type {values.dtype}; save it as float32")
    return np.asarray(values, np.float64)


def _taps_of_picture(path: Path, side: int) -> NDArray[np.float64]:
    """SettingsError if it cannot be read, ValueError if it is not that of a kernel."""
    try:
        picture = read_image(path, _LARGEST_PICTURE)
    except ImageError as error:
        raise SettingsError(str(error)) from None
    if picture.alpha is not None and picture.alpha.min() < 1:
        raise ValueError("it is transparent; save it without transparency")
    if (picture.pixels != picture.pixels[..., :1]).any():
        raise ValueError("it is a picture in colour; save it in grey")
    height, width = picture.pixels.shape[:2]
    if height != width or height % side:
        raise ValueError(
            f"it is a picture of {width}x{height} pixels, and must have {side}x{side}, or a whole "
            "number of them for each tap"
        )
    magnification = height // side
    blocks = picture.pixels[..., 0].reshape(side, magnification, side, magnification)
    taps = blocks[:, :1, :, :1]
    if (blocks != taps).any():
        raise ValueError(
            f"its squares of {magnification}x{magnification} pixels are not of one grey each; "
            f"shrink it to {side}x{side}"
        )
    return taps.reshape(side, side).astype(np.float64)


def _numbers_of_text(content: bytes) -> NDArray[np.float64]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"a kernel is {_FORMS}") from None
    rows: list[list[float]] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].strip()
        if not words:
            continue
        try:
            rows.append([float(word) for word in re.split(r"\s*,\s*|\s+", words)])
        except ValueError:
            raise ValueError(
                f"line {number} holds more than numbers; a kernel is {_FORMS}"
            ) from None
        if len(rows[-1]) != len(rows[0]):
            raise ValueError(
                f"line {number} has {len(rows[-1])} numbers, those before it {len(rows[0])}; "
                "all rows must be equally long"
            )
    if not rows:
        raise ValueError(f"it has no numbers in it; a kernel is {_FORMS}")
    return np.array(rows, np.float64)
