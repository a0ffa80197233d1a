"""Which model is used where none is named."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dmsr_cli.cli.batch.settings import Models
from dmsr_cli.default_model import default_family
from dmsr_cli.errors import DeviceError
from dmsr_cli.weights_table import entry_text, read_weights_table

LITE = list(read_weights_table().values())


def write_table(folder: Path, scales: tuple[int, ...]) -> Path:
    """weights.toml with the lite models, and full ones at these scales."""
    full = [
        dataclasses.replace(
            entry, name=f"dmsr-x{entry.scale}", file=f"dmsr-x{entry.scale}.safetensors"
        )
        for entry in LITE
        if entry.scale in scales
    ]
    path = folder / "weights.toml"
    path.write_text("".join(map(entry_text, (*LITE, *full))))
    return path


def use_table(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmsr_cli.weights_table.find_weights_table", lambda: path)


@pytest.mark.parametrize(
    ("device", "family"), [("cpu", "dmsr-lite"), ("cuda", "dmsr"), ("mps", "dmsr")]
)
def test_full_model_on_gpu_lite_on_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, family: str
) -> None:
    use_table(write_table(tmp_path, (2, 3, 4)), monkeypatch)
    monkeypatch.setattr("dmsr_cli.device.choose_device", lambda name: torch.device(device))
    assert default_family() == family
    models = Models(None, "auto", "auto")
    assert [models.name_of(scale) for scale in (2, 3, 4)] == [f"{family}-x{s}" for s in (2, 3, 4)]


def test_lite_until_full_is_there_at_every_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmsr_cli.device.choose_device", lambda name: torch.device("cuda"))
    for scales in ((), (4,), (2, 4)):
        use_table(write_table(tmp_path, scales), monkeypatch)
        assert default_family() == "dmsr-lite"


def test_missing_device_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_table(write_table(tmp_path, (2, 3, 4)), monkeypatch)
    with pytest.raises(DeviceError, match="cuda:99"):
        default_family("cuda:99")


def test_lite_is_chosen_without_torch() -> None:
    code = (
        "import sys; from dmsr_cli.default_model import default_family; "
        "print(default_family('auto'), 'torch' in sys.modules)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.split() == ["dmsr-lite", "False"]
