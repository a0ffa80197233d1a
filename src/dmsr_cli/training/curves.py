"""The log of a run as one picture; matplotlib, an extra, is imported only when it is drawn."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dmsr_cli.errors import DmsrError
from dmsr_cli.files import atomic_write, display_name, reason_of
from dmsr_cli.training.losses import Losses

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Column = NDArray[np.float64]
Columns = dict[str, Column]
"""The log by the names of its columns, one value for each line; NaN where a cell is empty."""

COLUMNS = ("iteration", "seconds", "rate", "patches_per_second", *Losses._fields, "psnr")
INCHES = (12.0, 8.0)
DOTS_PER_INCH = 100
SMOOTHING_SHARE = 12
"""The smoothed line averages this part of a short log, half of it on each side of a point."""
LARGEST_REACH = 50
"""Lines on each side that are averaged at most, so that a long log keeps its details."""
TITLE_PAD = 26
"""Points between a title and its panel where a line of small text stands between."""
LARGEST_COUNT = 4000
"""More raw points than this are more than the picture has columns; the smoothed line has all."""


def curves_available() -> bool:
    """Whether matplotlib is installed; it is not imported, which takes a while."""
    return importlib.util.find_spec("matplotlib") is not None


def write_curves(log: Path, picture: Path) -> None:
    """Draw losses, validation PSNR, learning rate and speed over the iterations, as a PNG.

    Of a run that went on from a checkpoint, the part that it went through twice is drawn as the
    second time was. Lines that are not whole are left out: a run can be killed while it writes.

    Args:
        log: what a run writes as `log.csv`.
        picture: where the PNG goes, 1200 x 800 pixels; a file there is replaced.

    Raises:
        DmsrError: matplotlib is not installed, the log is missing or of something else, or the
            picture cannot be written.
    """
    columns = _read_log(log)
    try:
        figure = _draw(columns)
    except ImportError as error:
        raise DmsrError(
            f"cannot draw {display_name(picture)} ({reason_of(error)}): "
            'pip install "dmsr-cli[plots]"'
        ) from None
    with atomic_write(picture) as temporary:
        figure.savefig(temporary, format="png", dpi=DOTS_PER_INCH)


def _read_log(log: Path) -> Columns:
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DmsrError(
            f"cannot read {display_name(log)}: {reason_of(error)}; give the log.csv of a run"
        ) from None
    # What follows the last line break is a line that was cut off, or nothing.
    header, *lines = text.split("\n")[:-1] or [""]
    names = header.split(",")
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise DmsrError(
            f"{display_name(log)} is not the log of a run, it has no column {missing[0]!r}: "
            "give the log.csv of a run"
        )
    rows: list[list[float]] = []
    place = names.index("iteration")
    for line in lines:
        row = _values(line)
        if row is None or len(row) != len(names) or not np.isfinite(row[place]):
            continue
        while rows and rows[-1][place] >= row[place]:
            rows.pop()
        rows.append(row)
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
    return {name: table[:, names.index(name)] for name in COLUMNS}


def _values(line: str) -> list[float] | None:
    """The cells of a line as numbers (they are never quoted), or None if they are none."""
    try:
        return [float(cell) if cell else np.nan for cell in line.split(",")]
    except ValueError:
        return None


def _draw(columns: Columns) -> Figure:
    # The object API: pyplot would keep the figure, and might want a display.
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)  # inches around each panel
    figure = Figure(figsize=INCHES, layout=layout)
    figure.suptitle(_summary(columns), fontsize=14)
    if not len(columns["iteration"]):
        return figure
    panels = figure.subplot_mosaic([["losses", "psnr"], ["rate", "speed"]], height_ratios=[3, 2])
    _draw_losses(panels["losses"], columns)
    _draw_psnr(panels["psnr"], columns)
    _draw_rate(panels["rate"], columns)
    _draw_speed(panels["speed"], columns)
    for axes in panels.values():
        _finish(axes, _last(columns))
    return figure


def _summary(columns: Columns) -> str:
    if not len(columns["iteration"]):
        return "Training: no report yet"
    return f"Training: {_last(columns):,.0f} iterations in {_duration(columns['seconds'][-1])}"


def _last(columns: Columns) -> float:
    return float(columns["iteration"][-1])


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _draw_losses(axes: Axes, columns: Columns) -> None:
    axes.set_title("Losses before their weights, raw and smoothed", pad=TITLE_PAD)
    axes.set_ylabel("loss (log scale)")
    axes.set_yscale("log")
    for number, name in enumerate(Losses._fields):
        # A logarithm has no place for the zeros of a loss that the recipe leaves out.
        values = np.where(columns[name] > 0, columns[name], np.nan)
        if np.isfinite(values).any():
            # The mean of logarithms runs through the middle of what a logarithmic axis shows.
            smooth = np.exp(_running_mean(np.log(values)))
            label = name.replace("_", " ")
            _draw_smoothed(axes, columns["iteration"], values, smooth, f"C{number}", label)
    if axes.get_lines():
        axes.legend(
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=len(Losses._fields),
            frameon=False,
            fontsize="small",
            columnspacing=1.2,
            handlelength=1.5,
        )


def _draw_psnr(axes: Axes, columns: Columns) -> None:
    axes.set_title("Validation PSNR", pad=TITLE_PAD)
    axes.set_ylabel("PSNR (dB)")
    validated = np.isfinite(columns["psnr"])
    iterations, scores = columns["iteration"][validated], columns["psnr"][validated]
    if not len(scores):
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no validation yet", transform=axes.transAxes, ha="center", va="center")
        return
    axes.text(
        0.5,
        1.04,
        "mean over the validation pictures and their degradations",
        transform=axes.transAxes,
        ha="center",
        fontsize="small",
    )
    axes.plot(iterations, scores, "o-", color="C0", markersize=4)
    best = int(scores.argmax())
    axes.plot(iterations[best], scores[best], "o", color="C3", markersize=8)
    # Nothing is above the best point, so its label covers nothing.
    axes.margins(y=0.15)
    axes.annotate(
        f"best: {scores[best]:.2f} dB at {iterations[best]:,.0f}",
        (iterations[best], scores[best]),
        xytext=(0, 8),
        textcoords="offset points",
        ha=_towards_the_middle(iterations[best] / max(_last(columns), 1)),
        va="bottom",
        color="C3",
    )


def _towards_the_middle(share: float) -> str:
    """How a text is aligned at this share of the width so that it stays within the panel."""
    if share < 1 / 3:
        return "left"
    return "right" if share > 2 / 3 else "center"


def _draw_rate(axes: Axes, columns: Columns) -> None:
    axes.set_title("Learning rate")
    axes.set_ylabel("learning rate")
    axes.plot(columns["iteration"], columns["rate"], color="C0", marker=_marker(columns["rate"]))
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
    _show_zero(axes)


def _draw_speed(axes: Axes, columns: Columns) -> None:
    axes.set_title("Speed, raw and smoothed")
    axes.set_ylabel("patches/s")
    speed = columns["patches_per_second"]
    _draw_smoothed(axes, columns["iteration"], speed, _running_mean(speed), "C0")
    _show_zero(axes)


def _show_zero(axes: Axes) -> None:
    """Start the axis at zero, which shares are judged against, with room above the curve."""
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1])


def _draw_smoothed(
    axes: Axes, iterations: Column, values: Column, smooth: Column, colour: str, label: str = ""
) -> None:
    """A faint line of the values as they are, and the smoothed one over it."""
    step = len(values) // LARGEST_COUNT + 1
    axes.plot(iterations[::step], values[::step], color=colour, alpha=0.25, linewidth=0.8)
    axes.plot(iterations, smooth, color=colour, label=label, marker=_marker(values))


def _marker(values: Column) -> str | None:
    """A line through one point alone is not seen."""
    return "o" if len(values) == 1 else None


def _running_mean(values: Column) -> Column:
    """The mean over the neighbours on each side, as many as there are; NaN is left out."""
    reach = min(len(values) // (2 * SMOOTHING_SHARE), LARGEST_REACH)
    known = np.isfinite(values)
    positions = np.arange(len(values))
    first = np.maximum(positions - reach, 0)
    last = np.minimum(positions + reach + 1, len(values))

    def windows(summands: Column) -> Column:
        sums = np.concatenate(([0.0], np.cumsum(summands)))
        return sums[last] - sums[first]

    counts = windows(known.astype(np.float64))
    total = windows(np.where(known, values, 0.0))
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _finish(axes: Axes, last: float) -> None:
    """What all panels share: the axis of iterations, from 0 to the last one, and a faint grid."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.set_xlabel("iteration")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlim(0, 1.02 * max(last, 1))
