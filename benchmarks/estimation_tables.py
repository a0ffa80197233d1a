"""What `estimation.py` measured, as tables and plots."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dmsr_cli.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLASSICAL = ("estimate_sigma", "Laplacian", "edges")
WIDTH_LEVELS = (0.0, 15.0, 50.0)
SMALLEST_WIDTH_OF_AIM = 0.8
LARGEST_LEVEL_OF_AIM = 50.0
LEVEL_LIMITS = (-6, 8)
DOTS_PER_INCH = 100


@dataclass(frozen=True)
class Score:
    """Mean errors of one method in one cell; None where the method does not estimate that."""

    data: str
    scale: int
    lr: str
    kernel_width: float
    noise_level: float
    method: str
    pictures: int
    width_error: float | None = None
    """Estimated less true width, HR pixels."""
    width_distance: float | None = None
    """Its magnitude, picture by picture."""
    kernel_psnr: float | None = None
    level_error: float | None = None
    """Estimated level less the root mean square of the noise in the LR picture, of 255."""
    level_distance: float | None = None
    sigma_error: float | None = None
    """Estimated level less the level of the noise that was added, before any clipping."""
    sigma_distance: float | None = None
    detail_error: float | None = None
    """Like the level error, but of the level that the finest detail of the noise map has."""
    detail_distance: float | None = None
    map_correlation: float | None = None
    """Pearson's, of the estimated and the true noise over all pixels and channels."""
    map_error: float | None = None
    """Root mean square difference of estimated and true noise, of 255."""


class Chosen:
    """Some of the scores; methods of one kind, but several sets of pictures."""

    def __init__(self, scores: Iterable[Score]) -> None:
        self.scores = list(scores)

    def where(self, condition: Callable[[Score], bool]) -> Chosen:
        return Chosen(score for score in self.scores if condition(score))

    def of(self, **values: object) -> Chosen:
        """Those whose fields have these values."""
        return self.where(
            lambda score: all(getattr(score, name) == value for name, value in values.items())
        )

    def values(self, field: str) -> list[float]:
        """What is there of a field, sorted, each once."""
        return sorted({getattr(score, field) for score in self.scores})

    def mean(self, field: str) -> float | None:
        """Over all pictures; None where nothing was measured."""
        found = [(getattr(score, field), score.pictures) for score in self.scores]
        found = [(value, count) for value, count in found if value is not None]
        if not found:
            return None
        values, counts = zip(*found, strict=True)
        return float(np.average(values, weights=counts))

    def error(self, quantity: str, digits: int) -> str:
        """The mean of an error that has a sign and, in brackets, of its magnitude."""
        signed, distance = self.mean(f"{quantity}_error"), self.mean(f"{quantity}_distance")
        if signed is None or distance is None:
            return ""
        return f"{signed:+.{digits}f} ({distance:.{digits}f})"

    def plain(self, field: str, digits: int) -> str:
        mean = self.mean(field)
        return "" if mean is None else f"{mean:.{digits}f}"


def tables(scores: Sequence[Score]) -> str:
    """Everything in Markdown: the means that the aims speak of, then width, kernel, noise, maps."""
    everything = Chosen(scores)
    networks = everything.where(lambda score: score.method not in CLASSICAL)
    files = networks.of(lr="8-bit")
    edges = everything.of(lr="8-bit", method="edges")
    levels = everything.of(lr="8-bit").where(lambda score: score.method in CLASSICAL[:2])
    sizes = sorted({(score.data, score.pictures) for score in scores})
    signed = functools.partial(Chosen.error, digits=2)
    parts = [
        "Pictures: " + ", ".join(f"{count} of {data}" for data, count in sizes) + ".",
        "Means of all:",
        _means(networks),
        "Width, 8-bit LR, HR pixels:",
        _by_width(files, lambda cell: signed(cell, "width")),
        "The same of edges, without a network:",
        _by_width(edges, lambda cell: signed(cell, "width")),
        "Kernel, 8-bit LR, PSNR in dB:",
        _by_width(files, lambda cell: cell.plain("kernel_psnr", 1)),
        "Noise level, float LR:",
        _by_level(networks.of(lr="float"), lambda cell: signed(cell, "level")),
        "Noise level, 8-bit LR:",
        _by_level(files, lambda cell: signed(cell, "level")),
        "The same of the finest detail of the noise map:",
        _by_level(files, lambda cell: signed(cell, "detail")),
        "The same without a network:",
        _by_level(levels, lambda cell: signed(cell, "level")),
        "Noise map, 8-bit LR, correlation / root mean square error:",
        _by_level(files, _map_text),
    ]
    return "\n\n".join(parts)


def _map_text(cell: Chosen) -> str:
    """Correlation and root mean square error, of 255."""
    return " / ".join(filter(None, [cell.plain("map_correlation", 3), cell.plain("map_error", 2)]))


def _means(networks: Chosen) -> str:
    """Means over all that the aims speak of: a row for each model and kind of LR."""
    rows = []
    for title, method in _methods(networks):
        for lr in sorted({score.lr for score in method.scores}):
            here = method.of(lr=lr)
            noisy = here.where(lambda score: score.noise_level <= LARGEST_LEVEL_OF_AIM)
            level = _same_widths(noisy)
            blurred = noisy.where(lambda score: score.kernel_width >= SMALLEST_WIDTH_OF_AIM)
            widths = [blurred.of(noise_level=level).error("width", 2) for level in WIDTH_LEVELS]
            likeness = _same_levels(here).plain("kernel_psnr", 2)
            maps = level.plain("map_error", 2)
            levels = [level.error(name, 2) for name in ("level", "sigma", "detail")]
            rows.append([title, lr, *levels, maps, *widths, likeness])
    head = ["model", "LR", f"noise, up to {LARGEST_LEVEL_OF_AIM:g}", "noise that was added"]
    head += ["finest detail", "noise map"]
    head += [f"width from {SMALLEST_WIDTH_OF_AIM:g}, noise {level:g}" for level in WIDTH_LEVELS]
    return _table([*head, "kernel, dB"], rows)


def _by_width(chosen: Chosen, text: Callable[[Chosen], str]) -> str:
    """Rows by width, a column for each method and noise level."""
    columns = [
        (f"{title}, noise {level:g}", method.of(noise_level=level))
        for title, method in _methods(chosen)
        for level in WIDTH_LEVELS
    ]
    rows = [
        [f"{width:g}", *(text(column.of(kernel_width=width)) for _, column in columns)]
        for width in chosen.values("kernel_width")
    ]
    return _table(["width", *(title for title, _ in columns)], rows)


def _by_level(chosen: Chosen, text: Callable[[Chosen], str]) -> str:
    """Rows by noise level, a column for each method."""
    columns = _methods(_same_widths(chosen))
    rows = [
        [f"{level:g}", *(text(method.of(noise_level=level)) for _, method in columns)]
        for level in chosen.values("noise_level")
    ]
    return _table(["noise", *(title for title, _ in columns)], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _methods(chosen: Chosen) -> list[tuple[str, Chosen]]:
    """What becomes a column or a row: a network, or one of the others at a scale."""
    pairs = sorted({(score.scale, score.method) for score in chosen.scores})
    return [
        (f"{name}, x{scale}" if name in CLASSICAL else name, chosen.of(scale=scale, method=name))
        for scale, name in pairs
    ]


def _same_widths(chosen: Chosen) -> Chosen:
    """Those widths that were measured at every level, so that levels can be compared."""
    levels = chosen.values("noise_level")
    return chosen.where(
        lambda score: chosen.of(kernel_width=score.kernel_width).values("noise_level") == levels
    )


def _same_levels(chosen: Chosen) -> Chosen:
    """Those levels that were measured at every width."""
    widths = chosen.values("kernel_width")
    return chosen.where(
        lambda score: chosen.of(noise_level=score.noise_level).values("kernel_width") == widths
    )


def draw(scores: Sequence[Score], folder: Path) -> None:
    """Errors of width and level as PNG: width_error.png, noise_error.png."""
    chosen = Chosen(scores).of(lr="8-bit")
    _draw(chosen, folder / "width_error.png", _draw_widths, "error of the width, HR pixels")
    _draw(chosen, folder / "noise_error.png", _draw_levels, "error of the noise level, of 255")


def _draw(chosen: Chosen, path: Path, fill: Callable[[Axes, Chosen], None], label: str) -> None:
    """One panel for each scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    scales = chosen.values("scale")
    figure, panels = pyplot.subplots(
        *(1, len(scales)), figsize=(3.4 * len(scales), 3.2), layout="constrained", sharey=True
    )
    for scale, panel in zip(scales, np.atleast_1d(panels), strict=True):
        panel.axhline(0, color="grey", linewidth=0.8)
        fill(panel, chosen.of(scale=scale))
        panel.set_title(f"x{scale:g}")
    np.atleast_1d(panels)[0].set_ylabel(label)
    np.atleast_1d(panels)[-1].legend(fontsize="small")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DOTS_PER_INCH)
    pyplot.close(figure)


def _draw_widths(panel: Axes, chosen: Chosen) -> None:
    networks = chosen.where(lambda score: score.method not in CLASSICAL)
    for level in WIDTH_LEVELS:
        _line(panel, networks.of(noise_level=level), "kernel_width", "width", f"noise {level:g}")
    edges = chosen.of(method="edges", noise_level=0)
    _line(panel, edges, "kernel_width", "width", "edges, noise 0", linestyle="--")
    panel.set_xlabel("true width, HR pixels")


def _draw_levels(panel: Axes, chosen: Chosen) -> None:
    same = _same_widths(chosen)
    networks = same.where(lambda score: score.method not in CLASSICAL)
    _line(panel, networks, "noise_level", "level", "dmsr")
    _line(panel, networks, "noise_level", "detail", "dmsr, finest detail")
    for name in CLASSICAL[:2]:
        _line(panel, same.of(method=name), "noise_level", "level", name, linestyle="--")
    panel.set_xlabel("noise level, of 255")
    panel.set_ylim(*LEVEL_LIMITS)


def _line(
    panel: Axes, chosen: Chosen, along: str, quantity: str, label: str, linestyle: str = "-"
) -> None:
    """Mean errors over the values of a field; nothing if nothing was measured."""
    found = [
        (value, chosen.of(**{along: value}).mean(f"{quantity}_error"))
        for value in chosen.values(along)
    ]
    points = [(value, error) for value, error in found if error is not None]
    if points:
        panel.plot(*zip(*points, strict=True), label=label, linestyle=linestyle, marker=".")
