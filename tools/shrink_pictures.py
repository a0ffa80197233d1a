"""Copy training pictures, encoded anew at the best quality whose files fit a total size.

    python tools/shrink_pictures.py photos/ -o photos-small/ --size 45

Only pixels travel: no alpha, profile or EXIF, none of which training looks at. Luma PSNR on twelve
photographs of 0.9 MP (JPEG, quality 95, 4.4 bits per pixel) at 32 % of their bytes: AVIF
41.2 dB, WebP 41.1 dB, JPEG 37.1 dB; RGB 37.5 dB, 35.3 dB, 33.6 dB. Seconds per megapixel on one
core, to encode and to decode: AVIF 0.6 and 0.02, WebP 0.2 and 0.01, JPEG 0.02 and 0.01.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import random
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from PIL import features

from dmsr_cli.errors import DataError, DmsrError, ImageError, SettingsError
from dmsr_cli.files import display_name, reason_of
from dmsr_cli.images import find_images, read_image
from dmsr_cli.metrics import psnr

MEBIBYTE = 2**20
SAMPLE = 12
"""Pictures that the quality is searched on."""
BEST_QUALITY = 100

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Format:
    """A file format, and the options of Pillow that make its pixels closest for the bytes."""

    name: str
    suffix: str
    options: dict[str, Any]


FORMATS = {
    "jpeg": Format("JPEG", ".jpg", {"subsampling": 0, "optimize": True, "progressive": True}),
    "webp": Format("WEBP", ".webp", {"method": 6}),  # its colours have half the resolution, always
    "avif": Format(
        "AVIF",
        ".avif",
        {
            "subsampling": "4:4:4",
            "speed": 6,
            "codec": "aom",
            "advanced": {"tune": "psnr"},  # not how it looks: that costs 0.6 dB in RGB
            "max_threads": 1,  # the pictures run side by side
        },
    ),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """An original in memory."""

    path: Path
    pixels: NDArray[np.uint8]
    """Height x width x 3, RGB."""


@dataclasses.dataclass(frozen=True)
class Copy:
    """All pictures, encoded at one quality."""

    folder: Path
    quality: int
    size: int
    """Bytes of all files together."""


class Sample:
    """Some pictures in memory, and what they become at each quality."""

    def __init__(self, pictures: Sequence[Picture], file_format: Format) -> None:
        self.pictures = pictures
        self.file_format = file_format
        self.sizes: dict[int, int] = {}

    def size(self, quality: int) -> int:
        """Bytes of all its pictures."""
        if quality not in self.sizes:
            self.sizes[quality] = sum(map(len, self._encoded(quality)))
        return self.sizes[quality]

    def psnr(self, quality: int) -> float:
        """Mean luma PSNR against the originals, in dB."""
        values = [
            psnr(_tensor(_decoded(data)), _tensor(picture.pixels))
            for data, picture in zip(self._encoded(quality), self.pictures, strict=True)
        ]
        return sum(values) / len(values)

    def highest_quality(self, size: float, low: int, high: int) -> int:
        """The highest quality from `low` to `high`, without both, that gives at most `size` bytes.

        `low` if there is none.
        """
        while high - low > 1:
            middle = (low + high) // 2
            if self.size(middle) <= size:
                low = middle
            else:
                high = middle
        return low

    def _encoded(self, quality: int) -> list[bytes]:
        return _side_by_side(
            lambda picture: _encoded(picture, self.file_format, quality), self.pictures
        )


def shrink(
    sources: Sequence[Path],
    folder: Path,
    limit: float,
    file_format: Format,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> str:
    """Copy the pictures of all sources to a folder, in at most `limit` bytes.

    `say` gets a line for each try with all pictures. Returns the line that says what was done.

    Raises:
        DataError: there are no pictures, one is given twice, they fit as they are, or do not fit
            at the lowest quality.
        ImageError: a picture cannot be read or encoded.
        SettingsError: this Pillow cannot write the format.
        DmsrError: the folder is not empty, or cannot be written. In no case is anything left.
    """
    if file_format.suffix[1:] not in features.get_supported():
        raise SettingsError(
            f"this Pillow cannot write {file_format.name}: use another --format, or a newer Pillow"
        )
    pictures = _named_pictures(sources, file_format.suffix)
    size = sum(path.stat().st_size for path in pictures)
    if size <= limit:
        raise DataError(f"the pictures fit as they are: they have {size / MEBIBYTE:.2f} MiB")
    chosen = random.Random(seed).sample(list(pictures), min(SAMPLE, len(pictures)))
    share = sum(path.stat().st_size for path in chosen) / size
    with _workspace(folder) as workspace:
        sample = Sample(_side_by_side(_read, chosen), file_format)
        copy = _best_copy(pictures, sample, share, limit, workspace, say)
        luma_psnr = sample.psnr(copy.quality)
        if folder.exists():
            folder.rmdir()  # not every system renames over an empty one
        copy.folder.rename(folder)
    return (
        f"{len(pictures)} pictures, {copy.size / MEBIBYTE:.2f} MiB, quality {copy.quality}, "
        f"luma PSNR of {len(chosen)} of them {luma_psnr:.2f} dB"
    )


def _best_copy(
    pictures: dict[Path, Path],
    sample: Sample,
    share: float,
    limit: float,
    workspace: Path,
    say: Callable[[str], None],
) -> Copy:
    """The copy of the highest quality that fits.

    The sample, which has about `share` of all bytes, predicts that quality; each try with all
    pictures tells the share exactly, until no higher quality is expected to fit.
    """
    best, too_high = None, BEST_QUALITY + 1
    while True:
        low = best.quality if best else 0
        quality = sample.highest_quality(limit * share, low, too_high)
        if best and quality == low:
            return best
        quality = max(quality, 1)  # 0: none is expected to fit, and the lowest has to show it
        copy = _copied(pictures, workspace / str(quality), sample.file_format, quality)
        say(f"quality {quality}: {copy.size / MEBIBYTE:.2f} MiB")
        if copy.size <= limit:
            best = copy
        elif quality == 1:
            raise DataError(
                f"at the lowest quality they still have {copy.size / MEBIBYTE:.2f} MiB: take fewer "
                "pictures, or raise --size"
            )
        else:
            too_high = quality
        share = sample.size(quality) / copy.size


def _copied(pictures: dict[Path, Path], folder: Path, file_format: Format, quality: int) -> Copy:
    def write(names: tuple[Path, Path]) -> int:
        source, name = names
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target.write_bytes(_encoded(_read(source), file_format, quality))

    return Copy(folder, quality, sum(_side_by_side(write, pictures.items())))


def _named_pictures(sources: Sequence[Path], suffix: str) -> dict[Path, Path]:
    """Every picture, with the name that its copy gets in the folder.

    A copy keeps its path below the source; with several sources, the source's name comes first.
    Where two would have one name, a number is added.
    """
    names: dict[Path, Path] = {}
    taken: set[str] = set()
    for source in sources:
        for path, name in _pictures_of(source, alone=len(sources) == 1):
            if path.resolve() in names:
                raise DataError(f"{display_name(path)} is given twice: leave one out")
            unique, number = name.with_suffix(suffix), 1
            while str(unique).casefold() in taken:  # some file systems do not tell case
                number += 1
                unique = name.with_name(f"{name.stem}-{number}{suffix}")
            taken.add(str(unique).casefold())
            names[path.resolve()] = unique
    return names


def _pictures_of(source: Path, alone: bool) -> list[tuple[Path, Path]]:
    if not source.exists():
        raise DataError(f"there is no {display_name(source)}: give folders or pictures")
    if not source.is_dir():
        return [(source, Path(source.name))]
    paths = find_images(source, recursive=True)
    if not paths:
        raise DataError(f"no pictures in {display_name(source)}")
    above = Path() if alone else Path(source.resolve().name)
    return [(path, above / path.relative_to(source)) for path in paths]


@contextlib.contextmanager
def _workspace(folder: Path) -> Iterator[Path]:
    """Give a hidden folder beside `folder`, which must be new or empty; it is gone afterwards."""
    workspace = folder.resolve().parent / f".dmsr-{secrets.token_hex(8)}"
    try:
        if folder.exists() and any(folder.iterdir()):
            raise DmsrError(f"{display_name(folder)} is not empty: give a new or an empty folder")
        workspace.mkdir()
        yield workspace
    except OSError as error:
        raise DmsrError(f"cannot write {display_name(folder)}: {reason_of(error)}") from error
    finally:
        shutil.rmtree(workspace, ignore_errors=True)


def _read(path: Path) -> Picture:
    return Picture(path, (read_image(path).pixels * 255).round().astype(np.uint8))


def _encoded(picture: Picture, file_format: Format, quality: int) -> bytes:
    buffer = io.BytesIO()
    try:
        image = PIL.Image.fromarray(picture.pixels)
        image.save(buffer, format=file_format.name, quality=quality, **file_format.options)
    except Exception as error:  # encoders raise what they like
        raise ImageError(
            f"cannot encode {display_name(picture.path)} as {file_format.name}: {reason_of(error)}"
        ) from error
    return buffer.getvalue()


def _decoded(data: bytes) -> NDArray[np.uint8]:
    with PIL.Image.open(io.BytesIO(data)) as picture:
        return np.array(picture.convert("RGB"))


def _tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0).double() / 255


def _side_by_side(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """The function's results in the order of the items; the first failure ends it all."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="New or empty folder."
)
@click.option(
    "--size",
    required=True,
    type=click.FloatRange(min=0, min_open=True),
    help="MiB that the files may have together.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(list(FORMATS)),
    default="avif",
    show_default=True,
    help="AVIF has the least error, JPEG is read everywhere.",
)
@click.option("--seed", default=0, show_default=True, help="Chooses the pictures of the sample.")
def main(sources: tuple[Path, ...], output: Path, size: float, file_format: str, seed: int) -> None:
    """Copy the pictures of SOURCES, files or folders, encoded anew to fit a total size."""
    try:
        done = shrink(
            sources,
            output,
            size * MEBIBYTE,
            FORMATS[file_format],
            seed,
            say=lambda line: click.echo(line, err=True),
        )
    except DmsrError as error:
        raise click.ClickException(str(error)) from error
    click.echo(done)


if __name__ == "__main__":
    main()
