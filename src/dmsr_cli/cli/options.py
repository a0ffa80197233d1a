"""Options that several commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from dmsr_cli.cli.completing import complete_files, complete_models, complete_words
from dmsr_cli.config import SCALES
from dmsr_cli.errors import SettingsError

if TYPE_CHECKING:
    from dmsr_cli.resizing import Enlargement, OutputSize

Command = TypeVar("Command", bound=Callable[..., Any])


class ScaleType(click.Choice[int]):
    """One of the scales, also in the spelling x4."""

    def __init__(self) -> None:
        super().__init__(list(SCALES))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """ "4" and "x4" are 4."""
        text = str(value)
        return super().convert(text[1:] if text[:1] in ("x", "X") else text, param, ctx)


class FactorType(click.ParamType["Enlargement"]):
    """Any magnification above 1: 3.5, also in the spelling x3.5."""

    name = "factor"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Enlargement:
        """Text becomes an `Enlargement`."""
        from dmsr_cli.resizing import parse_factor

        try:
            return parse_factor(str(value))
        except SettingsError as error:
            self.fail(str(error), param, ctx)


class SizeType(click.ParamType["OutputSize"]):
    """Width and height in pixels, or one of them: 800x600, 800x, x600."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> OutputSize:
        """Text becomes an `OutputSize`."""
        from dmsr_cli.resizing import parse_size

        try:
            return parse_size(str(value))
        except SettingsError as error:
            self.fail(str(error), param, ctx)


class TileType(click.ParamType[int | str]):
    """`auto`, or a number of LR pixels (0 for the whole picture)."""

    name = "auto|0|N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Numbers become int."""
        if value == "auto":
            return "auto"
        try:
            number = int(value)
        except ValueError:
            number = -1
        if number != 0 and number < 16:
            self.fail(f"{value!r} is not auto, 0, or a number of LR pixels from 16 up", param, ctx)
        return number


class FormatType(click.ParamType[str]):
    """A format by its usual suffix, with or without the dot; becomes the suffix: `.png`."""

    name = "format"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Anything that can be written, stills and clips."""
        from dmsr_cli.images import WRITABLE_SUFFIXES
        from dmsr_cli.video import WRITABLE_VIDEO_SUFFIXES

        suffix = "." + str(value).lower().removeprefix(".")
        known = WRITABLE_SUFFIXES | WRITABLE_VIDEO_SUFFIXES
        if suffix not in known:
            names = " ".join(sorted(name[1:] for name in known))
            self.fail(f"{value!r} is not one of {names}", param, ctx)
        return suffix


def _complete_formats(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[Any]]:
    from dmsr_cli.images import WRITABLE_SUFFIXES
    from dmsr_cli.video import WRITABLE_VIDEO_SUFFIXES

    names = sorted(name[1:] for name in WRITABLE_SUFFIXES | WRITABLE_VIDEO_SUFFIXES)
    return complete_words(*names)(context, parameter, incomplete)


class FramesType(click.ParamType["tuple[int, int | None]"]):
    """A range of frames, A:B, where either may be left out."""

    name = "A:B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int | None]:
        """The first frame, and the one after the last or None."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{0,12}):(\d{0,12})", str(value), re.ASCII)
        first, after = match.groups() if match else ("", "0")
        start, stop = int(first or 0), int(after) if after else None
        if stop is not None and stop <= start:
            self.fail(f"{value!r} is not a range of frames, as 0:100, 25: or :50", param, ctx)
        return start, stop


def model_options(command: Command) -> Command:
    """-s, --model, --offline, --device, --precision: which network, and where it runs."""
    return scale_option(network_options(command))


def network_options(command: Command) -> Command:
    """--model, --offline, --device, --precision: `model_options` without the scale."""
    for option in (
        click.option(
            "--precision",
            type=click.Choice(["auto", "fp32", "fp16", "bf16"]),
            default="auto",
            show_default=True,
            help="Arithmetic of the convolutions.",
        ),
        click.option(
            "--device",
            default="auto",
            show_default=True,
            shell_complete=complete_words("auto", "cpu", "cuda", "mps"),
            metavar="auto|cpu|cuda|cuda:N|mps",
            help="Where to compute.",
        ),
        offline_option,
        click.option(
            "--model",
            shell_complete=complete_models,
            metavar="NAME|FILE|hf://OWNER/REPO[/FILE][@REVISION]",
            help="Which weights to use.  [default: best for the device]",
        ),
    ):
        command = option(command)
    return command


def offline_option(command: Command) -> Command:
    """--offline: it holds while the command runs, and needs no place among its parameters."""
    return click.option(
        "--offline",
        is_flag=True,
        expose_value=False,
        callback=_forbid_requests,
        help="Make no request to the Hub: take weights that are on this computer. HF_HUB_OFFLINE=1 "
        "in the environment does the same.",
    )(command)


def _forbid_requests(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    from dmsr_cli.hub import offline

    if value:
        context.with_resource(offline())


def scale_option(command: Command) -> Command:
    """-s / --scale."""
    return click.option(
        "-s", "--scale", type=ScaleType(), help="Magnification.  [default: the model's, else 4]"
    )(command)


def result_options(command: Command) -> Command:
    """--format, --quality, --strip, --no-provenance: what the files of results are like."""
    for option in (
        click.option(
            "--provenance/--no-provenance",
            default=True,
            show_default=True,
            help="Note in the metadata which tool, model and settings made the result.",
        ),
        click.option(
            "--strip",
            is_flag=True,
            help="Write no metadata: no EXIF, XMP, resolution or provenance. The colour profile "
            "stays, as it says what the colours are.",
        ),
        click.option(
            "--quality",
            type=click.IntRange(1, 100),
            default=95,
            show_default=True,
            help="Of formats that lose something, such as JPEG.",
        ),
        click.option(
            *("--format", "format_suffix"),
            type=FormatType(),
            shell_complete=_complete_formats,
            help="Format of results: png, jpg, webp, tif, ...  [default: that of the input]",
        ),
    ):
        command = option(command)
    return command


def size_options(command: Command) -> Command:
    """-s, --size, --passes: how large results are; any size, not only those of the models."""
    for option in (
        click.option(
            "--passes",
            type=click.IntRange(1, 2),
            default=1,
            show_default=True,
            help="Allow 2 to go beyond x4, up to x16. The second pass restores what is already a "
            "reconstruction: it sharpens what the first one invented and adds no information. It "
            "is run only where one pass does not reach the size.",
        ),
        click.option(
            "--size",
            type=SizeType(),
            metavar="WxH|Wx|xH",
            help="Size of the result in pixels instead of -s. With one side, the other keeps the "
            "picture's shape; both, if of another shape, stretch it. A size that is not larger "
            "than the picture restores it at that size.",
        ),
        click.option(
            *("-s", "--scale"),
            type=FactorType(),
            metavar="FACTOR",
            help="Magnification: 2, 3, 4, or any number above 1, as 3.5, for which the next larger "
            "model's result is shrunk.  [default: the model's, else 4]",
        ),
    ):
        command = option(command)
    return command


def recursive_option(command: Command) -> Command:
    """-r."""
    return click.option(
        "-r", "--recursive", is_flag=True, help="Take the folders inside folders, too."
    )(command)


def input_options(command: Command) -> Command:
    """INPUT..., -r: which pictures."""
    command = recursive_option(command)
    return click.argument(
        "inputs", nargs=-1, required=True, shell_complete=complete_files, metavar="INPUT..."
    )(command)


def report_option(*, can_append: bool) -> Callable[[Command], Command]:
    """--report: the records of --json in a file, or a page.

    Args:
        can_append: the command has --skip-existing, with which a report is gone on with.
    """
    appended = "With --skip-existing they are appended to a report that is there. "
    return click.option(
        *("--report", "report_file"),
        type=click.Path(path_type=Path),
        callback=_refuse_pipe,
        metavar="FILE",
        help="Write one JSON object per input, as it ends, and a summary into this file. "
        f"{appended if can_append else ''}A name in .html gets, at the end, one page with the "
        "pictures instead: a table to sort, each row of which opens to what was found.",
    )


def compare_page_option(command: Command) -> Command:
    """--compare-page: before and after in a page."""
    return click.option(
        "--compare-page",
        type=click.Path(path_type=Path),
        callback=_refuse_other_than_page,
        metavar="FILE.html",
        help="Write, at the end, one page with all pictures before and after, and a divider to "
        "drag between them.",
    )(command)


def _refuse_other_than_page(
    context: click.Context, parameter: click.Parameter, value: Path | None
) -> Path | None:
    from dmsr_cli.cli.batch.page_files import is_page

    if value is not None and not is_page(value):
        raise click.BadParameter("it is a page, and its name ends in .html")
    return value


def _refuse_pipe(
    context: click.Context, parameter: click.Parameter, value: Path | None
) -> Path | None:
    if value == Path("-"):
        raise click.BadParameter("it is a file; --json writes to standard output")
    return value


def watch_option(command: Command) -> Command:
    """--watch: serve a folder."""
    return click.option(
        "--watch",
        is_flag=True,
        help="When all is done, wait for new pictures and do them, too, until Ctrl-C. Turns "
        "--skip-existing on.",
    )(command)


class PixelsType(click.ParamType[int]):
    """A number of pixels, also in the spelling 800M or 1.5G."""

    name = "pixels"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Text becomes a number."""
        match = re.fullmatch(r"(\d{1,20}(?:\.\d{1,9})?)([MG]?)", str(value), re.ASCII | re.I)
        number, unit = match.groups() if match else ("0", "")
        pixels = Fraction(number) * {"": 1, "M": 10**6, "G": 10**9}[unit.upper()]
        if pixels < 1 or pixels.denominator > 1:
            what = f"{value!r} is not a number of pixels, as 800000000, 800M or 1.5G"
            self.fail(what, param, ctx)
        return int(pixels)


def limit_options(command: Command) -> Command:
    """--max-pixels, --allow-truncated: which pictures are refused."""
    for option in (
        click.option(
            "--allow-truncated",
            is_flag=True,
            help="Take what is there of pictures that are cut short or damaged, with a warning.",
        ),
        click.option(
            "--max-pixels",
            type=PixelsType(),
            default="500M",
            show_default=True,
            metavar="N",
            help="Refuse pictures with more pixels than this: a small file may claim any number, "
            "and fill the memory.",
        ),
    ):
        command = option(command)
    return command


def source_options(command: Command) -> Command:
    """INPUT..., --files-from, -r: which pictures, of a batch that a list may name."""
    for option in (
        recursive_option,
        click.option(
            "--files-from",
            shell_complete=complete_files,
            metavar="FILE|-",
            help="Take the files and folders that a list names, too: one on each line, or with "
            "NULs between them; - is standard input.",
        ),
        click.argument("inputs", nargs=-1, shell_complete=complete_files, metavar="INPUT..."),
    ):
        command = option(command)
    return command


def planning_options(command: Command) -> Command:
    """--suffix, --skip-existing, --dry-run: what results are called, and which are made."""
    for option in (
        click.option(
            "--dry-run",
            is_flag=True,
            help="Say what would be done with each input, and do nothing.",
        ),
        click.option(
            "--skip-existing",
            is_flag=True,
            help="Leave results that are up to date: made with these settings and weights from "
            "this input. Others of ours are made anew.",
        ),
        click.option(
            "--suffix",
            callback=_name_ending,
            metavar="TEXT",
            help='What the names of results get after the input\'s; nothing ("") only if they go '
            "to another folder.  [default: the size, as _x4]",
        ),
    ):
        command = option(command)
    return command


def _name_ending(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """A part of a file's name, and no way into another folder."""
    if value is not None and any(sign in value for sign in "/\\\0"):
        raise click.BadParameter("it is a part of a name, and has no / or \\ in it")
    # There, a:b.png is a hidden stream of the file a, and the others are in no name.
    if value is not None and os.name == "nt" and any(sign in value for sign in ':*?"<>|'):
        raise click.BadParameter('Windows has no names with : * ? " < > or |')
    return value


def debug_option(command: Command) -> Command:
    """--debug: read by `main` before anything else, so that it works for every error."""
    return click.option(
        "--debug", is_flag=True, help="Show where an error comes from (traceback)."
    )(command)
