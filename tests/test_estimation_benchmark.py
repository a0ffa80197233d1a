"""The benchmark of the estimates: what it measures where the truth is known."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from dmsr_cli import Degradation, write_image
from dmsr_cli.degradation import degrade, gaussian_kernel
from dmsr_cli.weights import save_weights
from pictures import smooth
from tiny_weights import tiny_model

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def estimation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("estimation")


@pytest.fixture
def classical(estimation: ModuleType) -> ModuleType:
    return importlib.import_module("classical_estimators")


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    folder.mkdir()
    for name, picture in (("a", smooth()), ("b", 1 - smooth()), ("c", smooth() ** 2)):
        write_image(picture, folder / f"{name}.png")
    return folder


def run(estimation: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["estimation.py", *map(str, arguments)])
    estimation.main()


def test_everything_is_measured_and_shown(estimation, album, tmp_path, monkeypatch, capsys):
    weights, output = tmp_path / "tiny.safetensors", tmp_path / "scores.json"
    model = tiny_model()
    save_weights(model, weights)
    widths, levels = ("--widths", 0.2, 0.5, 2.6), ("--levels", 0, 5, 15)
    source = ("--data", album, "--pictures", 2, "--models", weights, "--device", "cpu")
    run(estimation, monkeypatch, *source, *widths, *levels, "-o", output)
    capsys.readouterr()
    scores = json.loads(output.read_text("utf-8"))
    # Noise 5 is not measured at width 0.5.
    grid = {(0.2, 0), (0.2, 5), (0.2, 15), (0.5, 0), (0.5, 15), (2.6, 0), (2.6, 5), (2.6, 15)}
    network = [score for score in scores if score["method"] == str(weights)]
    assert {(row["kernel_width"], row["noise_level"]) for row in network} == grid
    assert len(network) == 2 * len(grid)
    assert {score["pictures"] for score in scores} == {2}
    assert {score["scale"] for score in scores} == {model.config.scale}
    for score in network:
        assert score["width_distance"] >= abs(score["width_error"])
        assert (score["map_correlation"] is None) == (score["noise_level"] == 0)
    monkeypatch.setattr(estimation, "measure", None)  # it has been done
    run(estimation, monkeypatch, "--read", output, "--markdown", "--plots", tmp_path / "plots")
    text = capsys.readouterr().out
    assert text.startswith("Pictures: 2 of album.")
    assert f"| {weights} | 8-bit |" in text
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        *("width_error.png", "noise_error.png")
    }


def test_a_folder_that_is_missing_is_one_line(estimation, tmp_path, monkeypatch):
    with pytest.raises(SystemExit) as caught:
        run(estimation, monkeypatch, "--data", tmp_path / "nowhere", "--models", "dmsr-lite-x4")
    assert "nowhere" in str(caught.value.code)
    assert "\n" not in str(caught.value.code)


def test_an_estimate_that_is_right_has_no_error(estimation, monkeypatch):
    noise = np.random.default_rng(0).normal(0, 10 / 255, (40, 50, 3)).astype(np.float32)
    truth = estimation.Truth("float", 1.4, 10.0, smooth(), noise)
    right = Degradation(gaussian_kernel(1.4)[0].numpy(), noise)
    monkeypatch.setattr(estimation, "estimate", lambda pixels, model: right)
    errors = estimation.network_errors(truth, None)
    assert errors["kernel_psnr"] == estimation.LARGEST_PSNR
    assert errors["map_correlation"] == pytest.approx(1)
    assert errors["map_error"] == errors["width_distance"] == 0
    assert errors["level_distance"] == pytest.approx(0, abs=1e-4)
    assert 0 < errors["sigma_distance"] < 0.5  # the noise is a sample
    assert 0 < errors["detail_distance"] < 0.5
    wrong = Degradation(gaussian_kernel(1.6)[0].numpy(), noise * np.float32(1.5))
    monkeypatch.setattr(estimation, "estimate", lambda pixels, model: wrong)
    errors = estimation.network_errors(truth, None)
    assert errors["width_error"] == pytest.approx(0.2)
    assert errors["level_error"] == pytest.approx(5, rel=0.05)
    assert errors["map_error"] == pytest.approx(5, rel=0.05)
    assert errors["kernel_psnr"] < 40


def test_kernel_psnr_is_relative_to_the_largest_tap(estimation):
    true = np.zeros((2, 2), np.float32)
    true[0, 0] = 0.5
    assert estimation.kernel_psnr(true + np.float32(0.05), true) == pytest.approx(20, abs=1e-3)


def test_noise_that_was_clipped_is_not_missed(estimation, album):
    """In 8-bit LR, half of the noise on black is gone."""
    write_image(np.zeros((40, 40, 3), np.float32), album / "black.png")
    floats, bytes_ = estimation.degraded(album / "black.png", 2, [(1.4, 20.0)], 0)
    assert [floats.lr, bytes_.lr] == ["float", "8-bit"]
    level = 255 * float(np.sqrt(np.mean(floats.noise**2)))
    assert level == pytest.approx(20, rel=0.05)
    assert 255 * float(np.sqrt(np.mean(bytes_.noise**2))) == pytest.approx(14.1, rel=0.05)
    errors = estimation.level_errors(level, bytes_)
    assert errors["level_error"] == pytest.approx(level - 14.1, abs=0.7)
    assert errors["sigma_distance"] < 1


@pytest.mark.parametrize("level", [2, 20])
def test_levels_without_a_network(classical, level):
    noise = np.random.default_rng(1).normal(0, level / 255, (120, 120, 3)).astype(np.float32)
    picture = smooth(120, 120) + noise
    assert classical.laplacian_level(picture) == pytest.approx(level, rel=0.05)
    if classical.has_wavelets():
        assert classical.wavelet_level(picture) == pytest.approx(level, rel=0.05)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_widths_without_a_network(classical, scale):
    """Edges in all directions: the wider the blur, the wider what is found."""
    rows, columns = torch.meshgrid(torch.arange(192.0), torch.arange(192.0), indexing="ij")
    discs = ((rows - 96) ** 2 + (columns - 96) ** 2).sqrt() % 64 < 32
    hr = discs.float().expand(1, 3, -1, -1)
    found = []
    for width in (0.2, 1.4, 2.6):
        lr = degrade(hr, gaussian_kernel(width), scale, 0)[0].permute(1, 2, 0).numpy()
        found.append(classical.edge_width(lr, scale))
    assert found == sorted(found)
    assert found[2] - found[0] > 1
