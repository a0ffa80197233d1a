"""Scores of models on test sets: what `dmsr evaluate` measures and the model pages show."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dmsr_cli.config import from_mapping
from dmsr_cli.errors import SettingsError
from dmsr_cli.files import display_name, reason_of


@dataclass(frozen=True)
class Score:
    """Mean scores of one degradation over all pictures of a set: PSNR in dB, SSIM up to 1."""

    data: str
    scale: int
    model: str
    kernel_width: float
    noise_level: float
    lr: str
    pictures: int
    psnr: float
    ssim: float
    bicubic_psnr: float
    bicubic_ssim: float
    paper_psnr: float | None
    paper_ssim: float | None


def to_csv(scores: Sequence[Score]) -> str:
    """The scores as CSV with a header line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(Score.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(score) for score in scores)
    return text.getvalue()


def to_json(scores: Sequence[Score]) -> str:
    """The scores as a JSON array of objects."""
    return json.dumps([asdict(score) for score in scores], indent=1) + "\n"


def read_scores(path: Path) -> tuple[Score, ...]:
    """The scores in a file that `dmsr evaluate -o FILE.json` wrote.

    Raises:
        SettingsError: it cannot be read, or is something else.
    """
    shown = display_name(path)
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {shown}: {reason_of(error)}") from None
    except (ValueError, RecursionError):
        records = None
    return from_records(records, shown)


def psnr_by_test(scores: Sequence[Score]) -> dict[str, float]:
    """PSNR with float LR in dB by test, as weights.toml lists it: {"Set5 [1.3, 15]": 27.54}."""
    return {
        f"{score.data} [{score.kernel_width:g}, {score.noise_level:g}]": round(score.psnr, 2)
        for score in scores
        if score.lr == "float"
    }


def from_records(records: Any, where: str) -> tuple[Score, ...]:
    """The scores that `to_json` wrote, parsed; `where` names the file in error messages.

    Raises:
        SettingsError: it is something else.
    """
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise SettingsError(f"{where}: not scores as `dmsr evaluate -o FILE.json` writes them")
    return tuple(from_mapping(Score, record, where) for record in records)
