"""The pictures that a report shows of one input, and the figures that they stand in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from dmsr_cli.pages import charts
from dmsr_cli.pages.embedding import (
    Bytes,
    exact_file,
    photo_file,
    picture_element,
    shrunk,
    small_picture,
)
from dmsr_cli.pages.exhibit import Exhibit
from dmsr_cli.pages.markup import Markup, element, joined

THUMBNAIL_SIDE = 160
PHOTO_SIDE = 640
QUALITY = 80
"""Of photographs; that of their noise is told by numbers."""
KERNEL_SIDE = 180
"""Of the kernel's picture on the page."""


@dataclass(frozen=True, eq=False)
class ReportPictures:
    """What is shown of one input, as small as it is shown."""

    thumbnail: Bytes
    """(h, w, 3), at most 160 on a side."""
    photo: Bytes
    """(h, w, 3), at most 640 on a side."""
    noise: Bytes
    """(h, w, 4), to lie over the photo."""
    kernel: NDArray[np.float32]
    """(K, K)."""
    histogram: charts.Histogram
    result: Bytes | None = None
    """As the photo."""
    inconsistency: Bytes | None = None
    """As the noise: where the result does not explain the photo."""


def report_pictures(exhibit: Exhibit) -> ReportPictures:
    """Make the small pictures of an input."""
    unexplained = exhibit.consistency_map
    photo = small_picture(exhibit.image, PHOTO_SIDE)
    return ReportPictures(
        thumbnail=np.asarray(shrunk(PIL.Image.fromarray(photo), THUMBNAIL_SIDE)),
        photo=photo,
        noise=charts.noise_overlay(exhibit.noise_map),
        kernel=exhibit.kernel,
        histogram=charts.histogram_of(exhibit.noise_map),
        result=None if exhibit.result is None else small_picture(exhibit.result, PHOTO_SIDE),
        inconsistency=None if unexplained is None else charts.difference_overlay(unexplained),
    )


def thumbnail(pixels: Bytes) -> Markup:
    """An ornament: the name beside it says what it is."""
    height, width = pixels.shape[:2]
    # At half its size, as fine screens have two pixels for one.
    size = max(1, width // 2), max(1, height // 2)
    return picture_element(photo_file(pixels, QUALITY), "", *size, "thumbnail")


def photo_figures(pictures: ReportPictures) -> Markup:
    """The large ones: the picture with what may lie over it, and the result."""
    drawn = [_photo_figure(pictures)]
    if pictures.result is not None:
        drawn.append(_figure(_photo(pictures.result, "The result"), "The result"))
    return joined(*drawn)


def kernel_figures(kernel: NDArray[np.float32], kernel_width: float | None) -> Markup:
    """The kernel from above, and from the side beside the Gaussian of that width, if known."""
    picture = picture_element(
        exact_file(charts.kernel_picture(kernel)),
        *("The blur kernel", KERNEL_SIDE, KERNEL_SIDE, "kernel"),
    )
    caption = ["The kernel ", _key("across", "across"), ", ", _key("down", "down")]
    if kernel_width is not None:
        caption += [", and ", _key("gaussian", "the nearest Gaussian")]
    return joined(
        _figure(picture, f"The blur kernel, {kernel.shape[1]}x{kernel.shape[0]}"),
        _figure(charts.profile_chart(kernel, kernel_width), *caption),
    )


def histogram_figure(histogram: charts.Histogram) -> Markup:
    """The noise in levels of 255."""
    drawn = charts.histogram_chart(histogram)
    return _figure(drawn, "The noise, and ", _key("gaussian", "a Gaussian as strong"))


def _photo_figure(pictures: ReportPictures) -> Markup:
    layers = [_photo(pictures.photo, "The picture")]
    switches: list[str] = ["The picture"]
    for overlay, name, text in (
        (pictures.noise, "noise", "where it is noisy"),
        (pictures.inconsistency, "inconsistency", "what the result does not explain"),
    ):
        if overlay is not None:
            height, width = overlay.shape[:2]
            data = exact_file(overlay)
            layers.append(picture_element(data, "", width, height, f"overlay {name}"))
            box = element("input", type="checkbox", class_=name)
            switches.append(element("label", box, f" show {text} in red"))
    return _figure(element("div", *layers, class_="layers"), *switches)


def _photo(pixels: Bytes, text: str) -> Markup:
    height, width = pixels.shape[:2]
    return picture_element(photo_file(pixels, QUALITY), text, width, height, "photo")


def _figure(drawn: Markup, *caption: str) -> Markup:
    return element("figure", drawn, element("figcaption", *caption))


def _key(name: str, text: str) -> Markup:
    """A part of a caption in the colour of the line that it names."""
    return element("span", text, class_=f"key {name}")
