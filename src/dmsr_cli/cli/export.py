"""`dmsr export`: the network as ONNX files, for other programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dmsr_cli.cli.completing import complete_files, complete_models
from dmsr_cli.cli.options import debug_option, offline_option, scale_option
from dmsr_cli.errors import DmsrError, SettingsError
from dmsr_cli.files import atomic_write, display_name, is_there, reason_of

if TYPE_CHECKING:
    from dmsr_cli.pipeline import Model

BOTH = ("extractor", "restorer")
SUFFIX = ".onnx"


@click.command()
@scale_option
@click.option("--model", metavar="NAME|FILE|hf://OWNER/REPO[/FILE][@REVISION]",
              shell_complete=complete_models,
              help="Which weights to use.  [default: dmsr-lite]")  # fmt: skip
@click.option("-o", "--output", required=True, metavar="FOLDER|FILE.onnx",
              shell_complete=complete_files,
              help="Where to write; one file only for one part.")  # fmt: skip
@click.option("--part", type=click.Choice([*BOTH, "both"]), default="both", show_default=True,
              help="What estimates the degradation, or what restores with it.")  # fmt: skip
@offline_option
@click.option("--opset", type=click.IntRange(18, 23), default=18, show_default=True,
              help="Version of ONNX's operators.")  # fmt: skip
@click.option("--check", is_flag=True,
              help="Compare with PyTorch before writing; needs onnxruntime.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True,
              help="Print one JSON object with the files.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
@debug_option
def export(
    scale: int | None,
    model: str | None,
    output: str,
    part: str,
    opset: int,
    check: bool,
    as_json: bool,
    overwrite: bool,
    debug: bool,
) -> int:
    """Write the network as ONNX files that other programs can run.

    The extractor makes blur kernel and noise map from a picture, the restorer makes the large
    picture from all three. Both take pictures of any size; docs/export.md says what they expect.
    """
    from dmsr_cli.pipeline import load_model

    parts = BOTH if part == "both" else (part,)
    _check_output(Path(output), parts)
    source = load_model(model, "cpu", scale=scale, precision="fp32")
    targets = _targets(Path(output), parts, source.name, overwrite)
    facts = _facts(source)
    records = []
    for each, (content, difference) in _made(source, facts, parts, opset, check).items():
        target = targets[each]
        _make_folder(target.parent)
        with atomic_write(target, replace=overwrite) as temporary:
            temporary.write_bytes(content)
        _say(target, len(content), difference)
        record = {"part": each, "file": str(target), "bytes": len(content)}
        records.append({**record, "largest_difference": difference})
    if as_json:
        click.echo(json.dumps({"facts": facts, "opset": opset, "files": records}))
    return 0


def _check_output(output: Path, parts: Sequence[str]) -> None:
    if output.suffix.lower() == SUFFIX and len(parts) > 1:
        raise SettingsError(
            f"{display_name(output)} can hold one part only: give a folder, or --part"
        )


def _targets(output: Path, parts: Sequence[str], name: str, overwrite: bool) -> dict[str, Path]:
    """Where each part goes.

    Raises:
        SettingsError: something is there already.
    """
    stem = _plain_stem(name)
    is_file = output.suffix.lower() == SUFFIX
    targets = {part: output if is_file else output / f"{stem}-{part}{SUFFIX}" for part in parts}
    for target in targets.values():
        if not overwrite and is_there(target):
            raise SettingsError(
                f"{display_name(target)} exists already: use --overwrite or another -o"
            )
    return targets


def _made(
    source: Model, facts: Mapping[str, str], parts: Sequence[str], opset: int, check: bool
) -> dict[str, tuple[bytes, float | None]]:
    """Each part as a file, and its difference from PyTorch if that is checked."""
    from dmsr_cli.export import checking, onnx_model

    files: dict[str, tuple[bytes, float | None]] = {}
    for part in parts:
        content = onnx_model.onnx_content(source.network, part, opset, {**facts, "dmsr.part": part})
        difference = checking.largest_difference(content, source.network, part) if check else None
        files[part] = content, difference
    return files


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DmsrError(f"cannot write to {display_name(folder)}: {reason_of(error)}") from None


def _facts(source: Model) -> dict[str, str]:
    """What the files say about themselves, wherever they get to."""
    from dmsr_cli import __version__
    from dmsr_cli.weights_table import read_weights_table

    entry = read_weights_table().get(source.name)
    is_published = entry is not None and entry.sha256 == source.sha256
    return {
        "dmsr.model": source.name,
        "dmsr.scale": str(source.scale),
        "dmsr.version": __version__,
        "dmsr.license": entry.license if entry is not None and is_published else "unknown",
        "dmsr.weights_sha256": source.sha256,
        "dmsr.config": json.dumps(dataclasses.asdict(source.network.config)),
        "dmsr.input_range": "RGB, float32, 0 to 1, batch x 3 x height x width",
        "dmsr.output_range": "RGB, float32, nominally 0 to 1, not clipped",
    }


def _plain_stem(name: str) -> str:
    """The name of a model as files can have it: of a file or a Hub address the last part."""
    from dmsr_cli.safe_names import is_plain_name

    stem = name.partition("@")[0].rpartition("/")[2].removesuffix(".safetensors")
    return stem if is_plain_name(stem) else "dmsr"


def _say(path: Path, size: int, difference: float | None) -> None:
    checked = "" if difference is None else f", within {difference:.1e} of PyTorch"
    click.echo(f"{display_name(path)}: {size / 1e6:.2f} MB{checked}", err=True)
