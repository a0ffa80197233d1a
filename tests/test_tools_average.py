"""tools/average_weights.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dmsr_cli.weight_file import load_weights, save_weights
from tiny_weights import tiny_model

TOOL = Path(__file__).resolve().parents[1] / "tools" / "average_weights.py"


def average(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, TOOL, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{seed}.safetensors" for seed in range(3)]
    for seed, path in enumerate(paths):
        save_weights(tiny_model(seed=seed), path)
    return paths


def test_mean_of_each_tensor(files: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "mean.safetensors"
    done = average(*files, "-o", output)
    assert done.returncode == 0, done.stderr
    states = [load_weights(file).state_dict() for file in files]
    for key, value in load_weights(output).state_dict().items():
        expected = sum(state[key].double() for state in states) / 3
        # The file holds 16-bit numbers.
        torch.testing.assert_close(value.double(), expected, atol=1e-4, rtol=1e-3)


def test_other_networks_and_existing_files_are_refused(files: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_weights(tiny_model(scale=3), other)
    done = average(files[0], other, "-o", tmp_path / "mean.safetensors")
    assert done.returncode == 2
    assert "different networks" in done.stderr
    before = other.read_bytes()
    assert average(*files, "-o", other).returncode == 2
    assert other.read_bytes() == before
