"""The weights that come with the package: intact, and worth having."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dmsr_cli.degradation import bicubic_upsample, crop_to_multiple, degrade, gaussian_kernel
from dmsr_cli.evaluation import evaluate
from dmsr_cli.images import read_image
from dmsr_cli.metrics import psnr
from dmsr_cli.pipeline import load_model, upscale
from dmsr_cli.weights import BUNDLED_FOLDER, file_sha256, read_weights_table

ENTRIES = read_weights_table()
GAIN = {15.0: 1.2, 50.0: 3.8}
"""dB above bicubic on Set5 at kernel width 1.3 that a bundled model must have, by noise level."""


def test_there_is_one_for_each_scale() -> None:
    assert sorted(entry.scale for entry in ENTRIES.values()) == [2, 3, 4]
    assert {path.name for path in BUNDLED_FOLDER.iterdir()} == {
        entry.file for entry in ENTRIES.values()
    }


@pytest.mark.parametrize("name", ENTRIES)
def test_table_tells_the_truth(name: str) -> None:
    entry = ENTRIES[name]
    path = BUNDLED_FOLDER / entry.file
    assert file_sha256(path) == entry.sha256
    assert path.stat().st_size == entry.size
    model = load_model(name, "cpu")
    assert model.network.config == entry.config
    assert sum(p.numel() for p in model.network.parameters()) == entry.parameters


@pytest.mark.parametrize("name", ENTRIES)
def test_better_than_bicubic_on_a_picture_of_ours(name: str) -> None:
    model = load_model(name, "cpu")
    sample = Path(__file__).parent.parent / "examples" / "streetsign.png"
    pixels = torch.from_numpy(read_image(sample).pixels)
    hr = crop_to_multiple(pixels.permute(2, 0, 1).unsqueeze(0), model.scale)
    generator = torch.Generator().manual_seed(0)
    lr = degrade(hr, gaussian_kernel(1.3), model.scale, 25, generator)
    restored = torch.from_numpy(upscale(lr[0].permute(1, 2, 0).numpy(), model))
    bicubic = psnr(bicubic_upsample(lr, model.scale).clamp(0, 1), hr, model.scale)
    assert psnr(restored.permute(2, 0, 1).unsqueeze(0), hr, model.scale) > bicubic + 2


@pytest.mark.parametrize("name", ENTRIES)
def test_floor_on_set5(name: str, shared_data: Path) -> None:
    model = load_model(name, "cpu")
    scores = evaluate(
        shared_data / "eval" / "Set5",
        model,
        kernel_widths=[1.3],
        noise_levels=list(GAIN),
        lr_kinds=["float"],
    )
    for score in scores:
        assert score.psnr > score.bicubic_psnr + GAIN[score.noise_level]
        recorded = ENTRIES[name].psnr[f"Set5 [{score.kernel_width:g}, {score.noise_level:g}]"]
        assert score.psnr == pytest.approx(recorded, abs=0.02)
