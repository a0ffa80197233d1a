"""The weights that come with the package: intact, and worth having."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import torch

from dmsr_cli import model_facts
from dmsr_cli.config import DMSRConfig
from dmsr_cli.degradation import bicubic_upsample, crop_to_multiple, degrade, gaussian_kernel
from dmsr_cli.errors import SettingsError, WeightsError
from dmsr_cli.evaluation import KERNEL_WIDTHS, LR_KINDS, NOISE_LEVELS, evaluate
from dmsr_cli.images import read_image
from dmsr_cli.metrics import psnr
from dmsr_cli.model_card import CardModel, card_text
from dmsr_cli.model_facts import Cost, ModelFacts, facts_text, read_facts
from dmsr_cli.paper_scores import DATA_SETS
from dmsr_cli.pipeline import load_model, upscale
from dmsr_cli.scores import Score
from dmsr_cli.weights import BUNDLED_FOLDER, file_sha256, read_weights_table

ENTRIES = read_weights_table()
SOME_FACTS = ModelFacts(
    training="Made of paper.",
    weaknesses=("It tears.", "It burns."),
    cost=Cost(1.5, 20.0, "a desk"),
    scores=(Score("Set5", 3, "one-x3", 1.3, 15.0, "float", 5, 1.23, 0.5, 1.0, 0.4, None, None),),
)
GAIN = {15.0: 1.2, 50.0: 3.8}
"""dB above bicubic on Set5 at kernel width 1.3 that a bundled model must have, by noise level."""


def test_there_is_one_for_each_scale() -> None:
    assert sorted(entry.scale for entry in ENTRIES.values()) == [2, 3, 4]
    assert {path.name for path in BUNDLED_FOLDER.iterdir()} == {
        name for entry in ENTRIES.values() for name in (entry.file, f"{entry.name}.json")
    }


@pytest.mark.parametrize("name", ENTRIES)
def test_facts_are_whole(name: str) -> None:
    facts = read_facts(name)
    assert facts is not None
    assert facts.training
    assert facts.data
    assert facts.compute
    assert facts.weaknesses
    assert facts.cost is not None
    grid = itertools.product(DATA_SETS, KERNEL_WIDTHS, NOISE_LEVELS, LR_KINDS)
    scores = {cell: facts.find_score(*cell) for cell in grid}
    assert None not in scores.values()
    for cell, recorded in ENTRIES[name].psnr.items():
        data, width, level = re.fullmatch(r"(\w+) \[(.+), (.+)\]", cell).groups()
        score = scores[data, float(width), float(level), "float"]
        assert (score.scale, score.model) == (ENTRIES[name].scale, name)
        assert recorded == round(score.psnr, 2)


def test_facts_come_back_from_their_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_facts, "FOLDER", tmp_path)
    (tmp_path / "one.json").write_text(facts_text(SOME_FACTS), encoding="utf-8")
    assert read_facts("one") == SOME_FACTS
    assert read_facts("two") is None
    assert read_facts("../one") is None
    (tmp_path / "bad.json").write_text("[1", encoding="utf-8")
    with pytest.raises(WeightsError, match=r"bad\.json is damaged"):
        read_facts("bad")
    (tmp_path / "odd.json").write_text('{"colour": 1}', encoding="utf-8")
    with pytest.raises(SettingsError, match="unknown setting 'colour'"):
        read_facts("odd")


def test_card_says_what_is_known() -> None:
    config = DMSRConfig(scale=3)
    known = CardModel("one-x3", "one-x3.safetensors", config, 1234567, "ab" * 32, "MIT", SOME_FACTS)
    unknown = CardModel("two-x3", "two-x3.safetensors", config, 7, "cd" * 32, "MIT")
    text = card_text([known, unknown], "someone/models")
    head = text.split("---")[1]
    assert "license: mit" in head
    assert "pipeline_tag: image-to-image" in head
    for expected in (
        "1,234,567",
        "ab" * 32,
        "hf://someone/models/one-x3.safetensors",
        "1.23 / 0.5",
    ):
        assert expected in text
    assert "Made of paper." in text
    assert "## two-x3" not in text  # nothing is known of it
    other = CardModel("two-x3", "two-x3.safetensors", config, 7, "cd" * 32, "CC0-1.0")
    assert "license:" not in card_text([known, other], "someone/models")


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
