"""`dmsr evaluate`: the paper's grid over a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dmsr_cli.cli.completing import complete_files, complete_folders
from dmsr_cli.cli.options import debug_option, model_options
from dmsr_cli.errors import SettingsError

if TYPE_CHECKING:
    from rich.table import Table

    from dmsr_cli.scores import Score


@click.command()
@click.option("--data", required=True, metavar="FOLDER", shell_complete=complete_folders,
              help="HR pictures, such as Set5.")  # fmt: skip
@model_options
@click.option("--kernel-width", multiple=True, type=click.FloatRange(0, 20, min_open=True),
              help="Kernel width to test; may be repeated.  [default: 0.2, 1.3, 2.6]")  # fmt: skip
@click.option("--noise-level", multiple=True, type=click.FloatRange(0, 255),
              help="Noise level to test; may be repeated.  [default: 0, 15, 50]")  # fmt: skip
@click.option("--lr", "lr_kinds", multiple=True, type=click.Choice(["float", "8-bit"]),
              help="Kind of LR picture; may be repeated.  [default: both]")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Source of the noise.")
@click.option(*("-o", "--output"), metavar="FILE", shell_complete=complete_files,
              help="Write the scores here: .csv or .json.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there already.")
@debug_option
def evaluate(
    data: str,
    scale: int | None,
    model: str | None,
    device: str,
    precision: str,
    kernel_width: tuple[float, ...],
    noise_level: tuple[float, ...],
    lr_kinds: tuple[str, ...],
    seed: int,
    output: str | None,
    overwrite: bool,
    debug: bool,
) -> int:
    """Score a model: PSNR / SSIM on luma, beside bicubic and beside the paper's DMSR.

    Every picture is degraded with each kernel width and noise level, once as float LR (the
    paper's protocol) and once as 8-bit LR (what files hold).
    """
    from dmsr_cli import evaluation
    from dmsr_cli.cli.batch.progress import PatientProgress
    from dmsr_cli.cli.batch.report import BatchReport
    from dmsr_cli.pipeline import load_model

    target = None if output is None else _checked_target(Path(output), overwrite)
    network = load_model(model, device, scale=scale, precision=precision)
    report = BatchReport(as_json=False)
    with PatientProgress(report.console, f"{network.name} on {Path(data).name}") as progress:
        scores = evaluation.evaluate(
            Path(data),
            network,
            kernel_widths=kernel_width or evaluation.KERNEL_WIDTHS,
            noise_levels=noise_level or evaluation.NOISE_LEVELS,
            lr_kinds=lr_kinds or evaluation.LR_KINDS,
            seed=seed,
            on_progress=progress.update,
        )
    _print(_table(scores))
    if target is not None:
        from dmsr_cli.files import atomic_write
        from dmsr_cli.scores import to_csv, to_json

        text = to_json if target.suffix.lower() == ".json" else to_csv
        with atomic_write(target) as temporary:
            temporary.write_text(text(scores), encoding="utf-8")
    return 0


def _checked_target(path: Path, overwrite: bool) -> Path:
    if path.suffix.lower() not in (".csv", ".json"):
        raise SettingsError(f"cannot write {path}: its suffix must be .csv or .json")
    if path.exists() and not overwrite:
        raise SettingsError(f"{path} exists already: use --overwrite or another -o")
    return path


def _table(scores: list[Score]) -> Table:
    from rich import box
    from rich.table import Table

    first = scores[0]
    table = Table(
        title=f"{first.model} on {first.data} ({first.pictures} pictures), x{first.scale}: "
        "PSNR / SSIM",
        box=box.MARKDOWN,
    )
    for column in ("width", "noise", "LR", first.model, "bicubic", "paper", "over paper"):
        table.add_column(column, justify="right", no_wrap=True)
    for score in scores:
        paper, gain = "", ""
        if score.paper_psnr is not None and score.paper_ssim is not None:
            paper = f"{score.paper_psnr:.2f} / {score.paper_ssim:.4f}"
            gain = f"{score.psnr - score.paper_psnr:+.2f}"
        table.add_row(
            *(f"{score.kernel_width:g}", f"{score.noise_level:g}", score.lr),
            f"{score.psnr:.2f} / {score.ssim:.4f}",
            f"{score.bicubic_psnr:.2f} / {score.bicubic_ssim:.4f}",
            *(paper, gain),
        )
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    # A pipe has no width: the table must not be folded to fit one.
    console = Console(highlight=False)
    console.print(table) if console.is_terminal else Console(width=120).print(table)
